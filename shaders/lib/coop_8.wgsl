const SIZE: u32 = 8u;
alias Weights = coop_mat8x8<f16, A>;
alias Inputs = coop_mat8x8<f16, B>;
alias Sums = coop_mat8x8<f32, C>;

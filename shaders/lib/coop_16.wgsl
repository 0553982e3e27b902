const SIZE: u32 = 16u;
alias Weights = coop_mat16x16<f16, A>;
alias Inputs = coop_mat16x16<f16, B>;
alias Sums = coop_mat16x16<f32, C>;

const SIZE: u32 = 16u;
alias Weights = coop_mat16x16<f16, A>;
alias Inputs = coop_mat16x16<f16, B>;
alias Sums = coop_mat16x16<f32, C>;

// Four halves go to workgroup memory at once: one by one they took an H100 longer than all products.
const STAGED: u32 = 4u;   // halves of an element
var<workgroup> w_tile: array<vec4<f16>, W_HALVES / 4u>;
var<workgroup> x_tile: array<vec4<f16>, X_HALVES / 4u>;

fn put_four_w(at: u32, four: vec4<f16>) {
    w_tile[at / 4u] = four;
}

fn put_four_x(at: u32, four: vec4<f16>) {
    x_tile[at / 4u] = four;
}

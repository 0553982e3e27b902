const SIZE: u32 = 8u;
alias Weights = coop_mat8x8<f16, A>;
alias Inputs = coop_mat8x8<f16, B>;
alias Sums = coop_mat8x8<f32, C>;

// Metal loads a matrix from numbers, not from vectors.
const STAGED: u32 = 1u;   // halves of an element
var<workgroup> w_tile: array<f16, W_HALVES>;
var<workgroup> x_tile: array<f16, X_HALVES>;

fn put_four_w(at: u32, four: vec4<f16>) {
    for (var j = 0u; j < 4u; j++) {
        w_tile[at + j] = four[j];
    }
}

fn put_four_x(at: u32, four: vec4<f16>) {
    for (var j = 0u; j < 4u; j++) {
        x_tile[at + j] = four[j];
    }
}

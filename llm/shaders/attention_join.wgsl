// o[t, h] = Σ_z e_z · s_z / Σ_z e_z · w_z,   e_z = exp(highest_z − max highest)
//
// Joins the shares of keys of `attention` (https://crfm.stanford.edu/2023/10/12/flashdecoding.html): s_z is a share's sum of
// values, w_z that of its weights, both as seen from its own highest score. A share without keys has w_z = 0.
//
// splits: [SPLITS][tokens][HEADS][QUADS + 1], see `keys_split`. One workgroup for each head and token.
//
// Consts: WORKGROUP, QUADS, HEADS, SPLITS, TOKENS.
@group(0) @binding(1) var<storage, read> splits: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> o: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y * HEADS + group.x;
    let first = row * (QUADS + 1u);
    let stride = TOKENS * HEADS * (QUADS + 1u);
    var highest = splits[first + QUADS].x;
    for (var z = 1u; z < SPLITS; z++) {
        highest = max(highest, splits[first + z * stride + QUADS].x);
    }
    for (var i = lane; i < QUADS; i += WORKGROUP) {
        var quad = vec4(0.0);
        var sum = 0.0;
        for (var z = 0u; z < SPLITS; z++) {
            let at = first + z * stride;
            let stats = splits[at + QUADS];
            let weight = exp(stats.x - highest);
            quad += weight * splits[at + i];
            sum += weight * stats.y;
        }
        o[row * QUADS + i] = quad / sum;
    }
}

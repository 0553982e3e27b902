// y[lane] = the mean of the lane's chains of multiply-adds, which is 2 after enough rounds.
//
// A lane has SUMS vectors of four chains, each of `rounds` steps x ← x / 2 + 1, whose limit is 2:
// 8 · SUMS · rounds operations per lane.
struct Peak {
    rounds: u32,
    half: f32,
    one: f32,
}

@group(0) @binding(0) var<uniform> params: Peak;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    var sums: array<vec4<f32>, SUMS>;
    for (var i = 0u; i < SUMS; i++) {
        sums[i] = vec4(f32(lane)) + vec4(0.0, 1.0, 2.0, 3.0) * f32(i + 1u);
    }
    let half = vec4(params.half);
    let one = vec4(params.one);
    for (var round = 0u; round < params.rounds; round++) {
        for (var i = 0u; i < SUMS; i++) {
            sums[i] = fma(sums[i], half, one);
        }
    }
    var sum = vec4<f32>();
    for (var i = 0u; i < SUMS; i++) {
        sum += sums[i];
    }
    y[group.x * WORKGROUP + lane] = dot(sum, vec4(0.25)) / f32(SUMS);
}

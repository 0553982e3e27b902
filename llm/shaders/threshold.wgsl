// y[r, c] = |g[r, c]| ≤ t[c] ? 0 : x[r, c], and how many are not dropped
//
// Without their signs, floats order as their bits do, so integers are compared: NaN is above +∞ and never
// dropped, and no compiler can assume that there is none. A workgroup takes a slice of a row; rows after
// the run's last token are not counted. Reads g, x and t once, writes y.
//
// A tally is the number of active elements in 64 bits, low word first, then the number of rows.
//
// Consts: WORKGROUP, QUADS = elements of a row / 4, SLICE = quads of a workgroup.
// Fragments: total, state, and what g, x and y are.
struct Threshold {
    tally: u32,   // its number
}

@group(0) @binding(0) var<uniform> params: Threshold;
@group(0) @binding(1) var<storage, read> state: State;
@group(0) @binding(2) var<storage, read> thresholds: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> tallies: array<atomic<u32>>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y;
    let end = min((group.x + 1u) * SLICE, QUADS);
    var count = 0u;
    for (var i = group.x * SLICE + lane; i < end; i += WORKGROUP) {
        let g = gate_at(row, i);
        let kept = (bitcast<vec4<u32>>(g) & vec4(0x7fffffffu)) > thresholds[i];
        keep(row, i, g, kept);
        count += dot(select(vec4(0u), vec4(1u), kept), vec4(1u));
    }
    // f32 sums of whole numbers are exact below 2²⁴.
    let found = u32(total(lane, f32(count)));
    if lane == 0u && row < state.tokens {
        let tally = 4u * params.tally;
        let low = atomicAdd(&tallies[tally], found);
        if low + found < low {
            atomicAdd(&tallies[tally + 1u], 1u);
        }
        if group.x == 0u {
            atomicAdd(&tallies[tally + 2u], 1u);
        }
    }
}

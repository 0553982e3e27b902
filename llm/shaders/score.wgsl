// Folds a slice of the logits into each row's (maximum, Σ exp(logit − maximum), target's logit).
//
// −ln p(target) = maximum + ln(sum) − target. The head is computed slice by slice, so that rows ·
// vocabulary logits never exist at once. One workgroup for each row.
//
// Consts: WORKGROUP. Fragments: total.
struct Slice {
    len: u32,
    base: u32,   // id of its first logit
    start: u32,  // 1 for the first slice
}

@group(0) @binding(0) var<uniform> params: Slice;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> targets: array<u32>;
@group(0) @binding(3) var<storage, read_write> scores: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.x;
    let at = row * params.len;
    var found = -3.0e38;
    for (var i = lane; i < params.len; i += WORKGROUP) {
        found = max(found, logits[at + i]);
    }
    let before = scores[row];
    var highest = largest(lane, found);
    if params.start == 0u {
        highest = max(highest, before.x);
    }
    var part = 0.0;
    for (var i = lane; i < params.len; i += WORKGROUP) {
        part += exp(logits[at + i] - highest);
    }
    let sum = total(lane, part);
    if lane == 0u {
        var score = vec4(highest, sum, before.z, 0.0);
        if params.start == 0u {
            score.y += before.y * exp(before.x - highest);
        }
        let target_at = targets[row] - params.base;
        if target_at < params.len {
            score.z = logits[at + target_at];
        }
        scores[row] = score;
    }
}

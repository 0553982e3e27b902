// Weights that are not kept are staged as -0, which no kept one is. Their products are zero, except by NaN and
// infinity, which must not reach y through them: in steps whose x is odd, that is, has such values, they are left
// out. That is rare, so it is found step by step.
const NOT_KEPT: u32 = 0x80000000u;

// odds[step % 2]: whether the x of a step is odd.
var<workgroup> odds: array<atomic<u32>, 2>;

// Called before `step` is staged, and after the step before the last has been multiplied.
fn forget(step: u32, lane: u32) {
    if lane == 0u {
        atomicStore(&odds[step % 2u], 0u);
    }
}

fn look_at(x: vec4<f32>, step: u32) {
    if any((bitcast<vec4<u32>>(x) & vec4(0x7f800000u)) == vec4(0x7f800000u)) {
        atomicStore(&odds[step % 2u], 1u);
    }
}

fn is_odd(step: u32) -> bool {
    return atomicLoad(&odds[step % 2u]) != 0u;
}

// x as weight w meets it: zero where w is not kept.
fn kept(w: f32, x: vec4<f32>) -> vec4<f32> {
    return select(x, vec4<f32>(), bitcast<u32>(w) == NOT_KEPT);
}

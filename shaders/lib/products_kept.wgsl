// Weights that are not kept are staged as -0, which none that is kept is. Their products are zero, and are
// left out where x is odd: neither NaN nor infinity may reach y through what is not kept. That is rare, so
// it is found step by step.
const NOT_KEPT: u32 = 0x80000000u;

// Whether x of an even step, and of an odd one, is.
var<workgroup> odds: array<atomic<u32>, 2>;

// Before `step` is staged, and after the step before the last has been multiplied.
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

// What weight w meets of x.
fn kept(w: f32, x: vec4<f32>) -> vec4<f32> {
    return select(x, vec4<f32>(), bitcast<u32>(w) == NOT_KEPT);
}

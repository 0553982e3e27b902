// Every product of what is staged counts.
fn forget(step: u32, lane: u32) {}

fn look_at(x: vec4<f32>, step: u32) {}

fn is_odd(step: u32) -> bool {
    return false;
}

fn with_products(
    sum: vec4<f32>,
    w: vec4<f32>,
    x0: vec4<f32>,
    x1: vec4<f32>,
    x2: vec4<f32>,
    x3: vec4<f32>,
    odd: bool,
) -> vec4<f32> {
    var total = sum;
    total += w.x * x0;
    total += w.y * x1;
    total += w.z * x2;
    total += w.w * x3;
    return total;
}

// Every product of what is staged counts.
fn forget(step: u32, lane: u32) {}

fn look_at(x: vec4<f32>, step: u32) {}

fn is_odd(step: u32) -> bool {
    return false;
}

fn kept(w: f32, x: vec4<f32>) -> vec4<f32> {
    return x;
}

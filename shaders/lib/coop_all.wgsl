// Every product of what is staged counts.
fn forget(lane: u32) {}

fn look_at(x: vec4<f32>) {}

fn is_odd() -> bool {
    return false;
}

fn mend(row0: u32, vector0: u32, lane: u32) {}

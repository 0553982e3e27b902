// Sums and maxima over a workgroup that is a single subgroup.
fn total(lane: u32, value: f32) -> f32 {
    return subgroupAdd(value);
}

fn largest(lane: u32, value: f32) -> f32 {
    return subgroupMax(value);
}

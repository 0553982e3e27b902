// Sums ACC values over a workgroup that is one subgroup: no workgroup memory, no barrier.
struct Lane {
    @builtin(local_invocation_index) index: u32,
}

fn finish(acc: array<f32, ACC>, row0: u32, lane: Lane) {
    for (var i = 0u; i < ACC; i++) {
        let sum = subgroupAdd(acc[i]);
        if lane.index == 0u {
            store_sum(row0, i, sum);
        }
    }
}

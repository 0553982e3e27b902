// Sums ACC values over the workgroup: inside subgroups first, then over their sums.
// Right for any subgroup size, known or not.
struct Lane {
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_invocation_id) within: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
}

var<workgroup> partial: array<f32, ACC * SUBGROUPS>;
var<workgroup> partials: u32;

fn finish(acc: array<f32, ACC>, row0: u32, lane: Lane) {
    if lane.index == 0u {
        partials = lane.subgroups;
    }
    for (var i = 0u; i < ACC; i++) {
        let sum = subgroupAdd(acc[i]);
        if lane.within == 0u {
            partial[i * SUBGROUPS + lane.subgroup] = sum;
        }
    }
    workgroupBarrier();
    for (var i = lane.index; i < ACC; i += WORKGROUP) {
        store_sum(row0, i, total(i));
    }
}

fn total(i: u32) -> f32 {
    var sum = 0.0;
    for (var s = 0u; s < min(partials, SUBGROUPS); s++) {
        sum += partial[i * SUBGROUPS + s];
    }
    return sum;
}

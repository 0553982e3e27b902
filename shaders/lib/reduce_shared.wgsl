// Sums ACC values over the workgroup by a tree in workgroup memory.
struct Lane {
    @builtin(local_invocation_index) index: u32,
}

var<workgroup> partial: array<f32, ACC * WORKGROUP>;

fn finish(acc: array<f32, ACC>, row0: u32, lane: Lane) {
    for (var i = 0u; i < ACC; i++) {
        partial[i * WORKGROUP + lane.index] = acc[i];
    }
    for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        // All sums advance together, spread over all lanes.
        for (var k = lane.index; k < ACC * half; k += WORKGROUP) {
            let at = k / half * WORKGROUP + k % half;
            partial[at] += partial[at + half];
        }
    }
    workgroupBarrier();
    for (var i = lane.index; i < ACC; i += WORKGROUP) {
        store_sum(row0, i, total(i));
    }
}

fn total(i: u32) -> f32 {
    return partial[i * WORKGROUP];
}

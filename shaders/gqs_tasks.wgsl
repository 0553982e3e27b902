// The entry point of gqs_gemv whose workgroups sum equal ranges of slots, wherever panels end:
// GQSA's task-centric schedule. What task t finds of panel p is piece t + p, since each step from
// one piece to the next is one to the next task or the next panel; gqs_sum adds the pieces.
// Nothing depends on which task ends first: the same bits every time.
@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let task = group.x + group.y * groups.x;
    let slots = task_slots();
    let first = task * slots;
    let end = min(first + slots, words[params.indices + panels()]);
    if task >= TASKS || first >= end {
        return;
    }
    // The last panel that begins at `first` or before.
    var panel = 0u;
    var beyond = panels();
    while beyond - panel > 1u {
        let middle = (panel + beyond) / 2u;
        if words[params.indices + middle] <= first {
            panel = middle;
        } else {
            beyond = middle;
        }
    }
    var at = first;
    while at < end {
        let stop = min(end, words[params.indices + panel + 1u]);
        if stop > at {
            sum_slots(at, stop, lane);
            for (var i = lane; i < SUMS; i += WORKGROUP) {
                y[(task + panel) * SUMS + i] = sums[i * WORKGROUP];
            }
            workgroupBarrier();
        }
        at = stop;
        panel++;
    }
}

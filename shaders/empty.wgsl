// y[b, r] = bias[r]   where a weight has no columns
//
// One lane an element. Fragments: linear, bias.
@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let element = (group.x + group.y * groups.x) * WORKGROUP + lane;
    if element < params.rows * params.batch {
        store(element % params.rows, element / params.rows, 0.0);
    }
}

// y[b, r] = bias[r] + what the slices of band_gemv found of row r, in order.
//
// One lane an element of y. Reads every slice's sums once.
//
// Consts: WORKGROUP, SLICES. Fragments: linear, bias.
@group(0) @binding(1) var<storage, read> pieces: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.x + group.y * groups.x) * WORKGROUP + lane;
    if i >= params.rows * params.batch {
        return;
    }
    var sum = 0.0;
    for (var slice = 0u; slice < SLICES; slice++) {
        sum += pieces[slice * params.rows * params.batch + i];
    }
    store(i % params.rows, i / params.rows, sum);
}

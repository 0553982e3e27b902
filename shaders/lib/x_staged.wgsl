// Every vector is copied into workgroup memory first: gathers then stay on the chip.
@group(0) @binding(1) var<storage, read> x: array<f32>;
var<workgroup> staged: array<f32, STAGED>;

fn x_at(vector: u32, col: u32) -> f32 {
    return staged[vector * params.cols + col];
}

fn x_quad(vector: u32, quad: u32) -> vec4<f32> {
    let at = vector * params.cols + 4u * quad;
    return vec4(staged[at], staged[at + 1u], staged[at + 2u], staged[at + 3u]);
}

fn stage_x(lane: u32) {
    let count = min(BATCH * params.cols, STAGED);
    for (var i = lane; i < count; i += WORKGROUP) {
        staged[i] = x[params.vector_base * params.cols + i];
    }
    workgroupBarrier();
}

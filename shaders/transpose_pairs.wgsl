// xt[vector / wide, col, vector % wide] = x[vector, col]: tiles of `wide` vectors, columns first. Vectors of the last
// tile from `batch` on become zero.
//
// For CPU adapters, where cols is a multiple of 4: a lane transposes 4 vectors x 4 columns in registers, and
// loads and stores 16 bytes at a time as 64-bit integers. 8 bytes moved an element.
struct Transpose {
    batch: u32,
    cols: u32,
    wide: u32,
}

@group(0) @binding(0) var<uniform> params: Transpose;
@group(0) @binding(1) var<storage, read> x: array<vec2<u64>>;
@group(0) @binding(2) var<storage, read_write> xt: array<vec2<u64>>;

// Words i of two vectors side by side.
fn beside(low: vec2<u64>, high: vec2<u64>, i: u32) -> u64 {
    let shift = i % 2u * 32u;
    return u64(u32(low[i / 2u] >> shift)) | (u64(u32(high[i / 2u] >> shift)) << 32u);
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let id = group.x + group.y * groups.x;
    let across = (params.batch + params.wide - 1u) / params.wide * (params.wide / 4u);
    let vector0 = id % across * 4u;
    let quad = id / across * LANES + lane;
    if quad * 4u >= params.cols {
        return;
    }
    var block: array<vec2<u64>, 4>;
    for (var i = 0u; i < 4u; i++) {
        let vector = vector0 + i;
        let loaded = x[min(vector, params.batch - 1u) * (params.cols / 4u) + quad];
        block[i] = select(vec2<u64>(), loaded, vector < params.batch);
    }
    for (var i = 0u; i < 4u; i++) {
        let col = vector0 / params.wide * params.cols + quad * 4u + i;
        xt[(col * params.wide + vector0 % params.wide) / 4u] =
            vec2(beside(block[0], block[1], i), beside(block[2], block[3], i));
    }
}

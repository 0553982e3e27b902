// xt[vector / wide, col, vector % wide] = x[vector, col]: tiles of `wide` vectors, columns first. Vectors of the last
// tile from `batch` on become zero.
//
// One workgroup moves a tile of TILE x TILE through workgroup memory, so that both
// sides are read and written along their rows. 8 bytes moved an element.
//
// Consts: TILE; LANES, a multiple of it.
struct Transpose {
    batch: u32,
    cols: u32,
    wide: u32,
}

@group(0) @binding(0) var<uniform> params: Transpose;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> xt: array<f32>;

var<workgroup> tile: array<f32, TILE * (TILE + 1u)>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let id = group.x + group.y * groups.x;
    let vectors = (params.batch + params.wide - 1u) / params.wide * params.wide;
    let across = (vectors + TILE - 1u) / TILE;
    let vector0 = id % across * TILE;
    let col0 = id / across * TILE;
    if col0 >= params.cols {
        return;
    }
    let along = lane % TILE;
    for (var i = lane / TILE; i < TILE; i += LANES / TILE) {
        let vector = vector0 + i;
        let col = col0 + along;
        var value = 0.0;
        if vector < params.batch && col < params.cols {
            value = x[vector * params.cols + col];
        }
        tile[i * (TILE + 1u) + along] = value;
    }
    workgroupBarrier();
    for (var i = lane / TILE; i < TILE; i += LANES / TILE) {
        let vector = vector0 + along;
        let col = col0 + i;
        if vector < vectors && col < params.cols {
            let at = (vector / params.wide * params.cols + col) * params.wide + vector % params.wide;
            xt[at] = tile[along * (TILE + 1u) + i];
        }
    }
}

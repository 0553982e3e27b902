// kept[b, c] = v where |v| > thresholds[c], else 0, with v = activate(x[b, c]), for many vectors;
// and for each block of them which channels any keeps: flags[block, quad], four bits a quad.
//
// compact.wgsl makes the list from the flags. On its own it would go through all vectors for every channel of a
// lane, one after the other: slow, and Mesa before 23 silently ends the loops of a shader after 65 535 rounds in
// all. Here a lane has one quad of channels and one block.
//
// Reads x once and the thresholds once a block, writes kept.
//
// Consts: WORKGROUP. Fragments: keep, activate, channels (quads or scalars), limits (one, quads or
// scalars).
struct Flags {
    channels: u32,
    batch: u32,
    vectors: u32,   // of a block
}

@group(0) @binding(0) var<uniform> params: Flags;
@group(0) @binding(4) var<storage, read_write> flags: array<u32>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let quads = (params.channels + 3u) / 4u;
    let quad = (group.x + group.z * groups.x) * WORKGROUP + lane;
    if quad >= quads {
        return;
    }
    let first = group.y * params.vectors;
    let any = keep(first, min(first + params.vectors, params.batch), quad, true);
    let bits = select(vec4<u32>(), vec4(1u, 2u, 4u, 8u), any);
    flags[group.y * quads + quad] = bits.x | bits.y | bits.z | bits.w;
}

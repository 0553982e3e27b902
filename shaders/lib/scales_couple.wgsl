// Scales of two rows of a tile of eight, taken from the 16 bytes that hold them.
fn load_scales(row0: u32, group: u32) -> array<u32, ROWS> {
    let at = params.scales + row0 / 8u * params.scale_stride + group * 8u + row0 % 8u;
    let quad = quads[at / 4u];
    let couple = select(quad.xy, quad.zw, at % 4u != 0u);
    return array<u32, ROWS>(couple.x, couple.y);
}

// The scales of two slots, an even one and the next, taken from the 16 bytes that hold them.
fn scale_words(slot: u32) -> array<u32, SLOTS> {
    let quad = quads[(params.scales + slot) / 4u];
    let pair = select(quad.xy, quad.zw, slot % 4u != 0u);
    return array<u32, SLOTS>(pair.x, pair.y);
}

// The scales of SLOTS slots side by side, one load each.
fn scale_words(slot: u32) -> array<u32, SLOTS> {
    var scales: array<u32, SLOTS>;
    for (var g = 0u; g < SLOTS; g++) {
        scales[g] = scale_word(slot + g);
    }
    return scales;
}

// Σ code · x over segment s of a packet, code by code.
fn dot_codes(
    packed: array<u32, WORDS>,
    s: u32,
    picked: array<f32, BATCH * SPAN>,
) -> array<f32, BATCH> {
    var dots: array<f32, BATCH>;
    for (var c = 0u; c < SEGMENT / CHUNK; c++) {
        for (var i = 0u; i < CHUNK; i++) {
            let at = s * SEGMENT + c * CHUNK + i;
            let q = centred(packed, at * BITS, 0.0);
            for (var b = 0u; b < BATCH; b++) {
                dots[b] += q * picked[b * SPAN + at];
            }
        }
    }
    return dots;
}

// Σ code · x over segment s of a packet, four codes at a time: llvmpipe counts operations on vectors when it
// decides what to unroll, so a lane can take four times as many codes of as many rows.
fn dot_codes(
    packed: array<u32, WORDS>,
    s: u32,
    picked: array<f32, BATCH * SPAN>,
) -> array<f32, BATCH> {
    var dots: array<f32, BATCH>;
    for (var q = 0u; q < SEGMENT / 4u; q++) {
        let at = s * SEGMENT + 4u * q;
        let codes = code_quad(packed, at * BITS);
        for (var b = 0u; b < BATCH; b++) {
            let i = b * SPAN + at;
            dots[b] += dot(codes, vec4(picked[i], picked[i + 1u], picked[i + 2u], picked[i + 3u]));
        }
    }
    return dots;
}

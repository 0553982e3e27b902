// A packet of plain values.
const SPAN: u32 = WORDS * PER_WORD;

// Only codes have scales, and sums of x for their zeros.
const SCALES: u32 = 1u;
const SUMS: u32 = 1u;

fn fetch_scales(row0: u32, packet: u32) -> array<u32, SCALES> {
    return array<u32, SCALES>();
}

fn sum_segments(picked: array<f32, BATCH * SPAN>) -> array<f32, SUMS> {
    return array<f32, SUMS>();
}

fn add_packet(
    acc: ptr<function, array<f32, ACC>>,
    r: u32,
    packed: array<u32, WORDS>,
    picked: array<f32, BATCH * SPAN>,
    sums: array<f32, SUMS>,
    scales: array<u32, SCALES>,
) {
    for (var word = 0u; word < WORDS; word++) {
        let values = decode(packed[word]);
        for (var j = 0u; j < PER_WORD; j++) {
            for (var b = 0u; b < BATCH; b++) {
                (*acc)[r * BATCH + b] += values[j] * picked[b * SPAN + word * PER_WORD + j];
            }
        }
    }
}

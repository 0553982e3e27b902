// A packet of codes: Σ scale · (code − zero) · x = scale · (Σ code · x − zero · Σ x), summed over
// segments, the stretches of a packet that lie in one group. GROUP = slots of a group.
const SPAN: u32 = WORDS * 32u / BITS;
const SEGMENTS: u32 = SPAN / SEGMENT;
const SCALES: u32 = SEGMENTS * ROWS;
// Drivers unroll short loops inside short loops, not long ones.
const CHUNK: u32 = min(8u, SEGMENT);
const SUMS: u32 = SEGMENTS * BATCH;

fn fetch_scales(row0: u32, packet: u32) -> array<u32, SCALES> {
    var scales: array<u32, SCALES>;
    let last = params.scale_stride / 8u - 1u;
    for (var s = 0u; s < SEGMENTS; s++) {
        // A packet may reach past the last group.
        let group = min((packet * SPAN + s * SEGMENT) / GROUP, last);
        let of_rows = load_scales(row0, group);
        for (var r = 0u; r < ROWS; r++) {
            scales[s * ROWS + r] = of_rows[r];
        }
    }
    return scales;
}

fn sum_segments(picked: array<f32, BATCH * SPAN>) -> array<f32, SUMS> {
    var sums: array<f32, SUMS>;
    for (var s = 0u; s < SEGMENTS; s++) {
        for (var b = 0u; b < BATCH; b++) {
            var sum = 0.0;
            for (var c = 0u; c < SEGMENT / CHUNK; c++) {
                for (var i = 0u; i < CHUNK; i++) {
                    sum += picked[b * SPAN + s * SEGMENT + c * CHUNK + i];
                }
            }
            sums[s * BATCH + b] = sum;
        }
    }
    return sums;
}

fn add_packet(
    acc: ptr<function, array<f32, ACC>>,
    r: u32,
    packed: array<u32, WORDS>,
    picked: array<f32, BATCH * SPAN>,
    sums: array<f32, SUMS>,
    scales: array<u32, SCALES>,
) {
    for (var s = 0u; s < SEGMENTS; s++) {
        let dots = dot_codes(packed, s, picked);
        let word = scales[s * ROWS + r];
        let zero = zero_of(word);
        for (var b = 0u; b < BATCH; b++) {
            (*acc)[r * BATCH + b] += scale_of(word) * (dots[b] - zero * sums[s * BATCH + b]);
        }
    }
}

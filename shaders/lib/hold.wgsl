// x as integers in workgroup memory, which every workgroup makes for itself: HOLD packets of columns at a
// time, of BATCH vectors. A packet is as many columns as four words of codes hold.
//
// Inner sums of codes and integers are exact. An integer has BYTES bytes, each a signed digit, so that dot
// products of signed bytes serve all of them.
//
// Consts: WORKGROUP, BATCH, BITS, HOLD; STEP_COLS = columns of a block, which share a step; UNIT = columns
// that a lane takes at a time, whole quads of quotients.
// Fragments: peaks, values, and steps_bytes or steps_triples.
const PACKET: u32 = 4u;   // words of codes
const TAKEN: u32 = 32u / BITS;   // columns of one, which a lane makes integers of
const SPAN: u32 = PACKET * TAKEN;
const BLOCKS: u32 = SPAN / STEP_COLS;   // of a packet
const BLOCK_WORDS: u32 = STEP_COLS / TAKEN;
const MAKES: u32 = (BATCH * HOLD * PACKET + WORKGROUP - 1u) / WORKGROUP;
// After a shift and a mask every FIELDS-th code of a word lies in a byte of its own: four columns, FIELDS apart,
// meet the quotients of one word. A packet has FIELDS quads of such words for each byte.
const FIELDS: u32 = 8u / BITS;
const QUOTIENT_WORDS: u32 = STEP_COLS / 4u;   // of a block
const BYTE_MASK: u32 = ((1u << BITS) - 1u) * 0x01010101u;
// Codes of eight bits do not fit a signed byte, so 128 is subtracted from them, and from their zero.
const OFFSET: u32 = select(0u, 128u, BITS == 8u);
const UNIT_QUADS: u32 = UNIT / 16u;
const TOTAL_WORDS: u32 = (BYTES + 1u) / 2u;

// Quotients, of each vector and byte, the highest first, quad by quad of their units, so that neighbouring lanes
// read neighbouring quads. The same memory first has the peaks of words, and at the end a quad for each lane.
const QUADS: u32 = max(BATCH * BYTES * FIELDS * HOLD, WORKGROUP);
var<workgroup> quads_of_x: array<vec4<u32>, QUADS>;
var<workgroup> steps: array<f32, BATCH * HOLD * BLOCKS>;
// Σ q of blocks for each byte, two a word.
var<workgroup> totals: array<u32, BATCH * HOLD * BLOCKS * TOTAL_WORDS>;

// The first vector of a turn.
var<private> turn: u32;

// Quad `i` of the quotients of a packet.
fn quad_at(vector: u32, byte: u32, packet: u32, i: u32) -> u32 {
    let of_unit = (vector * BYTES + byte) * UNIT_QUADS + i % UNIT_QUADS;
    return (of_unit * HOLD + packet) * (FIELDS / UNIT_QUADS) + i / UNIT_QUADS;
}

// What word w of what is held belongs to: vector, packet, and word of the packet.
fn word_of(w: u32) -> vec3<u32> {
    return vec3(w / (HOLD * PACKET), w / PACKET % HOLD, w % PACKET);
}

fn values_for(first: u32, w: u32) -> array<f32, TAKEN> {
    let at = word_of(w);
    return values_of(params.vector_base + turn + at.x, (first + at.y) * SPAN + at.z * TAKEN);
}

// Makes integers of the packets from `first` on. Lanes with nothing left to do read the last word again, and
// write nothing.
fn hold(first: u32, lane: u32) {
    let last = BATCH * HOLD * PACKET - 1u;
    for (var n = 0u; n < MAKES; n++) {
        let w = lane + n * WORKGROUP;
        let peak = peak_of(values_for(first, min(w, last)));
        if w <= last {
            quads_of_x[w / 4u][w % 4u] = peak;
        }
    }
    workgroupBarrier();
    var peaks: array<u32, MAKES>;
    for (var n = 0u; n < MAKES; n++) {
        let w = min(lane + n * WORKGROUP, last);
        let four = quads_of_x[w / 4u];
        let pair = select(four.xy, four.zw, w % 4u >= 2u);
        peaks[n] = four[w % 4u];
        if BLOCK_WORDS >= 2u {
            peaks[n] = max(pair.x, pair.y);
        }
        if BLOCK_WORDS == 4u {
            peaks[n] = max(max(four.x, four.y), max(four.z, four.w));
        }
    }
    workgroupBarrier();
    for (var n = 0u; n < MAKES; n++) {
        let w = lane + n * WORKGROUP;
        let values = values_for(first, min(w, last));
        if w <= last {
            hold_word(w, peaks[n], values);
        }
    }
    workgroupBarrier();
    for (var b = lane; b < BATCH * HOLD * BLOCKS; b += WORKGROUP) {
        hold_totals(b);
    }
    workgroupBarrier();
}

fn hold_word(w: u32, peak: u32, values: array<f32, TAKEN>) {
    let at = word_of(w);
    let step = step_of(peak);
    let inverse = inverse_of(step);
    var digits: array<i32, TAKEN>;
    for (var i = 0u; i < TAKEN; i++) {
        digits[i] = quotient(values[i] * inverse);
    }
    for (var byte = BYTES; byte > 0u; byte--) {
        for (var f = 0u; f < FIELDS; f++) {
            let i = at.z * FIELDS + f;
            var word = 0u;
            for (var k = 0u; k < 4u; k++) {
                word |= (bitcast<u32>(digits[k * FIELDS + f]) & 0xffu) << (8u * k);
            }
            quads_of_x[quad_at(at.x, byte - 1u, at.y, i / 4u)][i % 4u] = word;
        }
        for (var i = 0u; i < TAKEN; i++) {
            digits[i] = (digits[i] + 128) >> 8u;
        }
    }
    if w % BLOCK_WORDS == 0u {
        steps[w / BLOCK_WORDS] = step;
    }
}

fn hold_totals(b: u32) {
    let first = b % BLOCKS * QUOTIENT_WORDS;
    var words: array<u32, TOTAL_WORDS>;
    for (var byte = 0u; byte < BYTES; byte++) {
        var total = 0;
        for (var i = 0u; i < QUOTIENT_WORDS; i++) {
            let at = first + i;
            let quad = quads_of_x[quad_at(b / (HOLD * BLOCKS), byte, b / BLOCKS % HOLD, at / 4u)];
            total += dot4I8Packed(quad[at % 4u], 0x01010101u);
        }
        words[byte / 2u] |= (bitcast<u32>(total) & 0xffffu) << (byte % 2u * 16u);
    }
    for (var i = 0u; i < TOTAL_WORDS; i++) {
        totals[b * TOTAL_WORDS + i] = words[i];
    }
}

fn total_of(b: u32, byte: u32) -> i32 {
    return extractBits(bitcast<i32>(totals[b * TOTAL_WORDS + byte / 2u]), byte % 2u * 16u, 16u);
}

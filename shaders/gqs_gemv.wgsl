// y[b, r] = bias[r] + Σ_k scale(k) · Σ_i (code(k, i) − zero(k)) · x[b, c(k) + i]
//
// over the kept groups k of row r, whose first column is c(k), for BATCH vectors. GQSA,
// https://arxiv.org/abs/2412.17560. A workgroup sums some slots of a panel of PANEL rows, whose
// kept groups lie by columns: all of them (gqs_panels), or those of its task (gqs_tasks). A lane
// takes a load of codes at a time: SLOTS whole groups, or one of the PIECES of one. Lanes side by
// side meet the same few groups of columns, and caches serve them. Each lane has sums of its own
// for all rows of the panel, in workgroup memory, where no two neighbours meet in a bank.
//
// Reads the weight once and x once a panel. 2 · kept · batch FLOPs.
//
// Consts: WORKGROUP, PANEL, BLOCK, BATCH, BITS; GROUP = columns of a group; GROUP_WORDS = words of
// its codes, SLOT_WORDS = those of a piece; WORDS = words of a load; SCALE_WORDS; ZERO_BITS; MIDDLE =
// the zero where none is stored; EDGE = the last group reaches past `cols`.
// Fragments: linear, bias, load, scale, slot, slots_words or slots_pair, slot_floats or slot_bytes with
// what they need, and the entry point.
const PIECES: u32 = GROUP_WORDS / SLOT_WORDS;
const PIECE: u32 = GROUP / PIECES;   // columns
const SLOTS: u32 = WORDS / SLOT_WORDS;   // of a load
// Words that say where the columns of a load begin.
const TELLERS: u32 = select(1u, SLOTS, SCALE_WORDS == 2u);
const SUMS: u32 = PANEL * BATCH;
const STRIPS: u32 = min(16u, WORKGROUP);   // lanes that add up one sum of all lanes

// Sum i belongs to row i / BATCH of the panel and vector i % BATCH.
var<workgroup> sums: array<f32, SUMS * WORKGROUP>;

// What a load brings: codes; for each of its slots a word of scale, zero and row; and the words that say where
// its columns begin. All its slots are of one block.
struct Load {
    packed: array<u32, WORDS>,
    words: array<u32, SLOTS>,
    columns: array<u32, TELLERS>,
}

fn column_words(slot: u32) -> array<u32, TELLERS> {
    var columns: array<u32, TELLERS>;
    for (var g = 0u; g < TELLERS; g++) {
        columns[g] = column_word(slot + g);
    }
    return columns;
}

fn fetch(begin: u32, item: u32) -> Load {
    var fetched: Load;
    fetched.packed = load(params.values + begin * GROUP_WORDS, item);
    let slot = begin + item / PIECES * SLOTS;
    fetched.words = scale_words(slot);
    fetched.columns = column_words(slot);
    return fetched;
}

fn add_load(fetched: Load, item: u32, lane: u32, counts: bool) {
    let piece = item % PIECES * PIECE;
    for (var g = 0u; g < SLOTS; g++) {
        let word = fetched.words[g];
        let col = first_column(fetched.columns[g % TELLERS], word) + piece;
        let dots = dot_slot(fetched.packed, g, word, col);
        let row = (word >> (16u + ZERO_BITS)) % PANEL;
        let scale = scale_of(word);
        for (var b = 0u; b < BATCH; b++) {
            // Spare slots have scale 0; the x they point at must not matter.
            let sum = select(0.0, scale * dots[b], counts && scale != 0.0);
            sums[(row * BATCH + b) * WORKGROUP + lane] += sum;
        }
    }
}

// Sums the slots from `begin` to `end` of a panel, whole blocks, into sums[i · WORKGROUP], by
// lane i % WORKGROUP.
fn sum_slots(begin: u32, end: u32, lane: u32) {
    for (var i = 0u; i < SUMS; i++) {
        sums[i * WORKGROUP + lane] = 0.0;
    }
    let items = (end - begin) / SLOTS * PIECES;
    let last = max(items, 1u) - 1u;
    // Two loads are in flight while a third is added, because the x that a load meets is known only once it is
    // here. Lanes without an item load the last one again, in vain: loads are in flight side by side only where
    // none is conditional.
    var next = fetch(begin, min(lane, last));
    var after = fetch(begin, min(WORKGROUP + lane, last));
    for (var base = 0u; base < items; base += WORKGROUP) {
        let now = next;
        next = after;
        after = fetch(begin, min(base + 2u * WORKGROUP + lane, last));
        add_load(now, min(base + lane, last), lane, base + lane < items);
    }
    workgroupBarrier();
    // All sums are reduced at once, each by STRIPS lanes, then by one.
    for (var k = lane; k < SUMS * STRIPS; k += WORKGROUP) {
        let at = k / STRIPS * WORKGROUP + k % STRIPS;
        var sum = 0.0;
        for (var i = 0u; i < WORKGROUP; i += STRIPS) {
            sum += sums[at + i];
        }
        sums[at] = sum;
    }
    workgroupBarrier();
    for (var i = lane; i < SUMS; i += WORKGROUP) {
        var sum = 0.0;
        for (var k = 0u; k < STRIPS; k++) {
            sum += sums[i * WORKGROUP + k];
        }
        sums[i * WORKGROUP] = sum;
    }
}

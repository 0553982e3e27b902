// Active columns of a slice, which its workgroup finds itself: those where x of at least one of its vectors is
// not exactly zero. A lane searches a block of 16; the SLICE_BLOCKS of a slice are no more than there are lanes.
// Entries count from the slice's first.
var<workgroup> counts: array<u32, SLICE_BLOCKS>;
var<workgroup> befores: array<u32, SLICE_BLOCKS + 1u>;   // entries before each block, and all
var<workgroup> chosen: array<u32, SLICE_BLOCKS * 16u>;   // columns, ascending
// The slice's first column.
var<private> first_col: u32;

// Bit i is set where column col + i is active.
fn actives(place: Place, col: u32, last: u32) -> u32 {
    var bits = 0u;
    for (var i = 0u; i < 16u; i++) {
        for (var b = 0u; b < BATCH; b++) {
            let x = x_at(vector_of(place, b), min(col + i, params.cols - 1u));
            let reaches = (bitcast<u32>(x) & 0x7fffffffu) != 0u && col + i < last;
            bits |= select(0u, 1u << i, reaches);
        }
    }
    return bits;
}

// Columns `first` to `last` are the slice's.
fn search_columns(place: Place, first: u32, last: u32) {
    first_col = first;
    let lane = place.team * LANES + place.lane;
    let blocks = (last - first + 15u) / 16u;
    var bits = 0u;
    if lane < blocks {
        bits = actives(place, first + 16u * lane, last);
        counts[lane] = countOneBits(bits);
    }
    workgroupBarrier();
    if lane < blocks {
        var entry = 0u;
        for (var k = 0u; k < lane; k++) {
            entry += counts[k];
        }
        befores[lane] = entry;
        if lane == blocks - 1u {
            befores[blocks] = entry + counts[lane];
        }
        for (var i = 0u; i < 16u; i++) {
            if (bits >> i & 1u) != 0u {
                chosen[entry] = first + 16u * lane + i;
                entry++;
            }
        }
    }
    workgroupBarrier();
}

// A slice of plain values is an equal share of the blocks.
fn entries_of(place: Place) -> vec2<u32> {
    let blocks = (params.cols + 15u) / 16u;
    let first = 16u * slice_begin(place.slice, blocks);
    let last = min(16u * slice_begin(place.slice + 1u, blocks), params.cols);
    search_columns(place, first, last);
    return vec2(0u, entries_before(last));
}

fn column_of(entry: u32) -> u32 {
    return chosen[entry];
}

// Active columns of the slice before column `col`, where a block begins or the slice ends.
fn entries_before(col: u32) -> u32 {
    return befores[(col - first_col + 15u) / 16u];
}

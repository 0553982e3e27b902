// y[b, r] = bias[r] + Σ_c W[r, c] · x[b, c]   over all columns, or over a list of active ones
//
// The weight lies in bands of BAND rows, column by column: a column that is not in the list is
// not read. A workgroup sums ROWS rows of a band over a slice of the columns, for BATCH vectors.
// Its lanes are teams of LANES along the rows, LOADS packets of WORDS words a lane; each team
// takes columns of its own, HELD at a time. With one slice sums go to y, else to scratch, where
// band_sum adds them in order. For plain values a slice is an equal share of the list, so work follows
// its length; for codes, and where workgroups search for active columns themselves, it is a range of columns.
//
// Reads the active columns once for BATCH vectors, and of x what is active once for ROWS rows.
// 2 · rows · active · batch FLOPs.
//
// Consts: WORKGROUP, LANES, LOADS, WORDS, ROWS, BAND, BATCH, SLICES; BITS of a value; ROUND = sums of
// a lane that teams exchange at a time, SHARED = those of all lanes; HALVES = lanes alternate between the
// halves of a load; for codes GROUP; where columns are spread LOOKS = columns that a lane looks up,
// AHEAD = lines that it touches of each.
// Fragments: linear, bias, decode or code and scale, load, x, entries (all or listed, with
// slices_of_entries, or searched, with SLICE_BLOCKS), held (each or spread), band_values or
// band_values_turns or band_codes.
const TEAMS: u32 = WORKGROUP / LANES;
const SPAN: u32 = WORDS * 32u / BITS;   // rows of a packet
const LANE_ROWS: u32 = LOADS * SPAN;
const ACC: u32 = LANE_ROWS * BATCH;

// Where a lane stands.
struct Place {
    lane: u32,      // of its team
    along: u32,     // which of the team's packets it takes
    team: u32,
    slice: u32,
    first: u32,     // row of the workgroup in the band
    band: u32,
    vector0: u32,
}

// First word of a packet's rows in the run of `column`.
fn run_at(place: Place, column: u32) -> u32 {
    return params.values + (place.band * params.cols + column) * params.value_stride
        + place.first * BITS / 32u;
}

// Row in the workgroup of row i of the lanes that take packet `along`.
fn row_of(along: u32, i: u32) -> u32 {
    return (i / SPAN * LANES + along) * SPAN + i % SPAN;
}

// Where a slice of `count` things begins, and the one before it ends.
fn slice_begin(slice: u32, count: u32) -> u32 {
    return count / SLICES * slice + min(slice, count % SLICES);
}

fn vector_of(place: Place, b: u32) -> u32 {
    return min(place.vector0 + b, params.batch - 1u);
}

// Sum i belongs to row i / BATCH of a lane and vector i % BATCH.
fn store_sum(place: Place, along: u32, i: u32, sum: f32) {
    let within = place.first + row_of(along, i / BATCH);
    let row = place.band * BAND + within;
    let vector = place.vector0 + i % BATCH;
    // A span may reach past its band.
    if within < BAND && row < params.rows && vector < params.batch {
        if SLICES == 1u {
            store(row, vector, sum);
        } else {
            y[(place.slice * params.batch + vector) * params.rows + row] = sum;
        }
    }
}

var<workgroup> sums: array<f32, SHARED>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let spans = (BAND + ROWS - 1u) / ROWS;
    let tiles = (params.batch + BATCH - 1u) / BATCH;
    var id = group.x + group.y * groups.x;
    var place: Place;
    place.vector0 = id % tiles * BATCH;
    id /= tiles;
    place.slice = id % SLICES;
    id /= SLICES;
    place.first = id % spans * ROWS;
    place.band = id / spans;
    place.lane = lane % LANES;
    // As in gemv, the first two lanes begin the two lines of a load.
    place.along = place.lane;
    if HALVES {
        place.along = place.lane % 2u * (LANES / 2u) + place.lane / 2u;
    }
    place.team = lane / LANES;
    if place.band * BAND + place.first >= params.rows {
        return;
    }
    let acc = sum_slice(place);

    if TEAMS == 1u {
        for (var i = 0u; i < ACC; i++) {
            store_sum(place, place.along, i, acc[i]);
        }
        return;
    }
    // The teams' shares of each sum are added in order, ROUND sums of every lane at a time. Unrolled loops index
    // `acc` by constants: else all of it would lie in memory.
    for (var round = 0u; round < ACC / ROUND; round++) {
        workgroupBarrier();
        for (var i = 0u; i < ACC; i++) {
            if i / ROUND == round {
                sums[i % ROUND * WORKGROUP + lane] = acc[i];
            }
        }
        workgroupBarrier();
        for (var k = lane; k < ROUND * LANES; k += WORKGROUP) {
            var sum = 0.0;
            for (var t = 0u; t < TEAMS; t++) {
                sum += sums[k / LANES * WORKGROUP + t * LANES + k % LANES];
            }
            store_sum(place, k % LANES, round * ROUND + k / LANES, sum);
        }
    }
}

// x as it is, in workgroup memory, which every workgroup fills for itself: HOLD packets of SPAN columns at a
// time, of BATCH vectors, zero past the last column.
//
// Consts: WORKGROUP, BATCH, HOLD, SPAN. Fragments: values.
const TAKEN: u32 = 4u;   // columns that a lane puts down at a time
const PACKET_QUADS: u32 = SPAN / 4u;
const HELD_QUADS: u32 = BATCH * HOLD * PACKET_QUADS;

// Quads of each vector: the first of every packet, then the second, and so on, so that lanes whose packets lie
// side by side do not meet in a bank. At the end a quad for each lane.
const QUADS: u32 = max(HELD_QUADS, WORKGROUP);
var<workgroup> quads_of_x: array<vec4<u32>, QUADS>;

// The first vector of a turn.
var<private> turn: u32;

fn quad_at(vector: u32, quad: u32) -> u32 {
    return (vector * PACKET_QUADS + quad % PACKET_QUADS) * HOLD + quad / PACKET_QUADS;
}

fn hold(first: u32, lane: u32) {
    for (var i = lane; i < HELD_QUADS; i += WORKGROUP) {
        let vector = i / (PACKET_QUADS * HOLD);
        let quad = i % (PACKET_QUADS * HOLD);
        let four = values_of(params.vector_base + turn + vector, first * SPAN + 4u * quad);
        quads_of_x[quad_at(vector, quad)] = bitcast<vec4<u32>>(vec4(four[0], four[1], four[2], four[3]));
    }
    workgroupBarrier();
}

// Columns 4 · quad … of what is held.
fn x_quad(vector: u32, quad: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(quads_of_x[quad_at(vector, quad)]);
}

fn x_at(vector: u32, col: u32) -> f32 {
    return x_quad(vector, col / 4u)[col % 4u];
}

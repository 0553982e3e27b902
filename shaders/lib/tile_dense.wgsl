// Dense: a slot is its column.
const COLUMNS_HELD: u32 = 1u;

fn fetch_columns(row0: u32, step: u32, lane: u32) -> array<u32, COLUMNS_HELD> {
    return array<u32, COLUMNS_HELD>();
}

fn put_columns(held: array<u32, COLUMNS_HELD>, lane: u32) {}

// Where the columns of four slots lie in a plane of x.
fn x_places(quad: u32, row0: u32, tile_row: u32) -> vec4<u32> {
    return vec4(quad * (4u * ACROSS + 1u)) + vec4(0u, ACROSS, 2u * ACROSS, 3u * ACROSS);
}

// Each lane loads and decodes one packet of every row of the tile, then hands its values round: all lanes share
// the cost of loads and decoding.
const HELD: u32 = LANES;

fn hand_round(value: f32, lane: u32) -> f32 {
    return subgroupShuffle(value, lane);
}

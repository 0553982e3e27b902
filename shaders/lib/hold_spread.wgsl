// A tile of rows holds as many packets as there are lanes: each lane loads and decodes one of
// every row, then hands its values round. What a load and a decoding cost is shared by all.
const HELD: u32 = LANES;

fn hand_round(value: f32, lane: u32) -> f32 {
    return subgroupShuffle(value, lane);
}

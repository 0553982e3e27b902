// N:M: slot s of an index set lies in window s / N; its place there is a field of INDEX_BITS
// bits. A word holds four slots of INTERLEAVE = 8 / INDEX_BITS consecutive sets:
//   | set 0: slots 4w … 4w+3 | set 1: slots 4w … 4w+3 | …    lowest bits first
// For a spare slot the column is `cols` or more.
const INTERLEAVE: u32 = 8u / INDEX_BITS;
const INDEX_MASK: u32 = (1u << INDEX_BITS) - 1u;

fn column(block: u32, slot: u32) -> u32 {
    let word = words[params.indices + block / INTERLEAVE * params.index_stride + slot / 4u];
    let shift = (block % INTERLEAVE * 4u + slot % 4u) * INDEX_BITS;
    return slot / N * M + ((word >> shift) & INDEX_MASK);
}

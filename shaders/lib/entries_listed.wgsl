// Active columns in ascending order, behind how many there are before each block of 16:
// | before[blocks + 1] | tally, padding to 4 words | columns |, as `compact` writes them.
@group(0) @binding(6) var<storage, read> list: array<u32>;

fn list_blocks() -> u32 {
    return (params.cols + 15u) / 16u;
}

fn column_of(entry: u32) -> u32 {
    return list[(list_blocks() + 7u) / 4u * 4u + entry];
}

// Active columns before column `col`, a multiple of 16 or past the last. The host may write anything to the list:
// even then no loop is longer than with every column.
fn entries_before(col: u32) -> u32 {
    return min(list[min((col + 15u) / 16u, list_blocks())], params.cols);
}

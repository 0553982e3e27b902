// Every column is active: entry k is column k.
fn column_of(entry: u32) -> u32 {
    return entry;
}

// Entries before column `col`.
fn entries_before(col: u32) -> u32 {
    return min(col, params.cols);
}

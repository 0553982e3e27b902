// A slice of plain values is an equal share of the entries, all columns or those of a list.
fn entries_of(place: Place) -> vec2<u32> {
    let entries = entries_before(params.cols);
    return vec2(slice_begin(place.slice, entries), slice_begin(place.slice + 1u, entries));
}

// Which columns are active is known: nothing is searched.
fn search_columns(place: Place, first: u32, last: u32) {}

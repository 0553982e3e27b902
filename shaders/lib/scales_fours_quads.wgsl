// Quad `at` of a part whose scales lie by fours of rows.
fn scales_at(at: u32) -> vec4<u32> {
    return quads[at];
}

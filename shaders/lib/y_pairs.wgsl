// y is written four rows of a vector at a time, as two 64-bit integers: CPU adapters pay for stores,
// hardly for their width. Rows come in fours, on the device and in y.
@group(0) @binding(2) var<storage, read_write> y: array<vec2<u64>>;

const RUN: u32 = 4u;

fn long_of(low: f32, high: f32) -> u64 {
    return u64(bitcast<u32>(low)) | (u64(bitcast<u32>(high)) << 32u);
}

fn store_run(row: u32, vector: u32, sums: array<f32, RUN>) {
    y[place_of(row, vector) / 4u] = vec2(
        long_of(finished(row, sums[0]), finished(row + 1u, sums[1])),
        long_of(finished(row + 2u, sums[2]), finished(row + 3u, sums[3])),
    );
}

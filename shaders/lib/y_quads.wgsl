// y is written four rows of a vector at a time. Rows come in fours, on the device and in y.
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

const RUN: u32 = 4u;

fn store_run(row: u32, vector: u32, sums: array<f32, RUN>) {
    y[place_of(row, vector) / 4u] = vec4(
        finished(row, sums[0]),
        finished(row + 1u, sums[1]),
        finished(row + 2u, sums[2]),
        finished(row + 3u, sums[3]),
    );
}

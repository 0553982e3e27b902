// y is written number by number.
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

const RUN: u32 = 1u;

fn store(row: u32, vector: u32, sum: f32) {
    y[place_of(row, vector)] = finished(row, sum);
}

fn store_run(row: u32, vector: u32, sums: array<f32, RUN>) {
    store(row, vector, sums[0]);
}

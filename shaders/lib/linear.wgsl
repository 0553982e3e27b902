// The uniform block of every product y = x·Wᵀ + bias. Offsets and strides of the weight are in words.
struct Linear {
    rows: u32,          // of this part
    cols: u32,
    batch: u32,
    row_base: u32,      // first row of this part in y
    y_stride: u32,      // rows of the whole weight
    slots: u32,         // stored values of a row
    values: u32,
    value_stride: u32,
    indices: u32,
    index_stride: u32,
    x_stride: u32,      // blocks of a vector of x, where x is integers
    scales: u32,        // of quantised weights
    scale_stride: u32,
    factor: f32,        // what every scale is multiplied by; a power of two
    vector_base: u32,   // first vector of this launch
}

@group(0) @binding(0) var<uniform> params: Linear;

// y of a row of this part, from its sum of products.
fn finished(row: u32, sum: f32) -> f32 {
    return params.factor * sum + bias_of(params.row_base + row);
}

// Index of y.
fn place_of(row: u32, vector: u32) -> u32 {
    return (params.vector_base + vector) * params.y_stride + params.row_base + row;
}

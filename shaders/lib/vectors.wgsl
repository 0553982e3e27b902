// The uniform block of launches that make integers of activations.
struct Vectors {
    cols: u32,
    batch: u32,
    blocks: u32,   // of a vector
}

@group(0) @binding(0) var<uniform> params: Vectors;

// What makes integers of activations in a launch of its own binds.
struct Vectors {
    cols: u32,
    batch: u32,
    blocks: u32,   // of a vector
}

@group(0) @binding(0) var<uniform> params: Vectors;

// The index section, where the values are read through another view of the part.
@group(0) @binding(3) var<storage, read> words: array<u32>;

// The scales, where codes are read through another view of the part.
@group(0) @binding(4) var<storage, read> quads: array<vec4<u32>>;

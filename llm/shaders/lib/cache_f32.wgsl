// Four elements of a key or value, as f32.
alias CacheQuad = vec4<f32>;

fn to_cache(quad: vec4<f32>) -> CacheQuad {
    return quad;
}

fn from_cache(quad: CacheQuad) -> vec4<f32> {
    return quad;
}

// Four elements of a key or value, as f16.
alias CacheQuad = vec2<u32>;

fn to_cache(quad: vec4<f32>) -> CacheQuad {
    return vec2(pack2x16float(quad.xy), pack2x16float(quad.zw));
}

fn from_cache(quad: CacheQuad) -> vec4<f32> {
    return vec4(unpack2x16float(quad.x), unpack2x16float(quad.y));
}

// What a range of vectors keeps of a quad of channels. Magnitudes are compared as integers, whose order is the
// same: a NaN is above every threshold and kept, however a driver treats NaN.
fn magnitudes(v: vec4<f32>) -> vec4<u32> {
    return bitcast<vec4<u32>>(v) & vec4(0x7fffffffu);
}

// Which of channels 4·quad … 4·quad + 3 any vector keeps; what each keeps is written if `own`.
fn keep(first: u32, last: u32, quad: u32, own: bool) -> vec4<bool> {
    let limits = magnitudes(limits_of(quad));
    var any = vec4(false);
    for (var b = first; b < last; b++) {
        let x = x_of(b, quad);
        let v = vec4(activate(x.x), activate(x.y), activate(x.z), activate(x.w));
        let keeps = magnitudes(v) > limits;
        if own {
            put_kept(b, quad, select(vec4<f32>(), v, keeps));
        }
        any |= keeps;
    }
    return any & (vec4(4u * quad) + vec4(0u, 1u, 2u, 3u) < vec4(params.channels));
}

// Two neighbouring words of the weight, the first at an even place.
fn pair(at: u32) -> vec2<u32> {
    return vec2(words[at], words[at + 1u]);
}

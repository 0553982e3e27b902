// destination[i] = source[i] for params.words elements of the type Word.
//
// A workgroup moves WORKGROUP * WORDS consecutive elements; in each step its lanes touch
// neighbours. Bytes moved: twice the size of the source.
struct Copy {
    words: u32,
}

@group(0) @binding(0) var<uniform> params: Copy;
@group(0) @binding(1) var<storage, read> source: array<Word>;
@group(0) @binding(2) var<storage, read_write> destination: array<Word>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = (group.x + group.y * groups.x) * WORKGROUP * WORDS + lane;
    for (var i = 0u; i < WORDS; i++) {
        let word = first + i * WORKGROUP;
        if word < params.words {
            destination[word] = source[word];
        }
    }
}

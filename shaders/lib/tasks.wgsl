// Slots are cut into TASKS equal ranges of whole blocks.
fn panels() -> u32 {
    return (params.rows + PANEL - 1u) / PANEL;
}

fn task_slots() -> u32 {
    let blocks = words[params.indices + panels()] / BLOCK;
    return max(1u, (blocks + TASKS - 1u) / TASKS) * BLOCK;
}

// Piece t + p is what task t finds of panel p. No task has anything of an empty panel.
fn pieces_of(panel: u32) -> vec2<u32> {
    let begin = words[params.indices + panel];
    let end = words[params.indices + panel + 1u];
    if begin == end {
        return vec2<u32>();
    }
    return vec2(begin, end - 1u) / task_slots() + vec2(panel, panel + 1u);
}

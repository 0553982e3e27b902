// Slots are cut into TASKS equal ranges of whole blocks.
fn panels() -> u32 {
    return (params.rows + PANEL - 1u) / PANEL;
}

fn task_slots() -> u32 {
    let blocks = words[params.indices + panels()] / BLOCK;
    return max(1u, (blocks + TASKS - 1u) / TASKS) * BLOCK;
}

//! Cutting a launch into several: the same shader, told at which workgroup of the whole it begins.

use super::{Dispatch, Operand, Role, dispatch::PARAM_WORDS};

const NUMBER: &str = "@builtin(workgroup_id) group: vec3<u32>,";
const WHOLE: &str = "@builtin(num_workgroups) groups: vec3<u32>,";

/// Cuts a launch into `count` pieces along the longest side of its grid, or one for each workgroup of that side if
/// it has fewer. `None` unless `main` takes its place in the launch from `group` and `groups`, spelt as the engine
/// spells them, and from nothing else.
pub fn cut(whole: &Dispatch, count: u32) -> Option<Vec<Dispatch>> {
    let mut same = whole.clone();
    let binding = same.operands.iter().map(|o| o.binding).max().unwrap_or(0) + 1;
    let main = same.fragments.iter().position(|f| f.contains(NUMBER))?;
    same.fragments[main] = told(&same.fragments[main], binding)?.into();
    let others = ["(num_workgroups)", "(global_invocation_id)"];
    let mut texts = same.fragments.iter();
    if texts.any(|text| others.iter().any(|name| text.contains(name))) {
        return None;
    }
    let piece = Operand::read("piece_of_launch", binding, Role::Piece);
    same.operands.push(piece);
    let words = same.params.len().max(1).next_multiple_of(PARAM_WORDS);
    same.params.resize(words, 0);

    let side = (0..3).max_by_key(|&side| whole.grid[side])?;
    let length = whole.grid[side];
    // A launch of nothing is one piece.
    let count = count.min(length).max(1);
    let edge = |n| (u64::from(length) * u64::from(n) / u64::from(count)) as u32;
    let piece = |n| {
        let mut piece = same.clone();
        piece.grid[side] = edge(n + 1) - edge(n);
        let [x, y, z] = whole.grid;
        piece.params.extend([0, 0, 0, 0, x, y, z, 0]);
        piece.params[words + side] = edge(n);
        piece
    };
    Some((0..count).map(piece).collect())
}

/// The text of `main`, changed to take its place in the launch from the uniform block.
fn told(text: &str, binding: u32) -> Option<String> {
    let number = text.find(NUMBER)?;
    let body = number + text[number..].find('{')? + 1;
    let (head, body) = text.split_at(body);
    let head = head
        .replace(NUMBER, "@builtin(workgroup_id) group_of_piece: vec3<u32>,")
        .replace(WHOLE, "");
    Some(format!(
        "{head}
    let group = group_of_piece + piece_of_launch.first;
    let groups = piece_of_launch.groups;{body}
struct PieceOfLaunch {{ first: vec3<u32>, groups: vec3<u32> }}
@group(0) @binding({binding}) var<uniform> piece_of_launch: PieceOfLaunch;
"
    ))
}

#[cfg(test)]
mod tests {
    use super::{PARAM_WORDS, cut};
    use crate::kernel::Dispatch;

    fn launch(parameters: &'static str) -> Dispatch {
        Dispatch {
            fragments: vec!["// A helper.".into(), parameters.into()],
            grid: [3, 10, 1],
            ..Dispatch::default()
        }
    }

    #[test]
    fn pieces_cover_the_grid_once() {
        let whole = launch("fn main(@builtin(workgroup_id) group: vec3<u32>,) {}");
        for count in [1, 3, 10, 11] {
            let pieces = cut(&whole, count).unwrap();
            assert_eq!(pieces.len(), count.min(10) as usize);
            let mut next = 0;
            for piece in pieces {
                assert_eq!(piece.params[PARAM_WORDS..], [0, next, 0, 0, 3, 10, 1, 0]);
                assert_eq!(piece.grid, [3, piece.grid[1], 1]);
                next += piece.grid[1];
            }
            assert_eq!(next, 10);
        }
    }

    #[test]
    fn a_launch_of_nothing_is_one_piece() {
        let mut whole = launch("fn main(@builtin(workgroup_id) group: vec3<u32>,) {}");
        whole.grid = [0; 3];
        let pieces = cut(&whole, 8).unwrap();
        assert_eq!(pieces.len(), 1);
        assert_eq!(pieces[0].grid, [0; 3]);
    }

    #[test]
    fn shaders_that_know_their_place_otherwise_stay_whole() {
        for text in [
            "fn main(@builtin(workgroup_id) id: vec3<u32>,) {}",
            "fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) n: vec3<u32>) {}",
            "fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(global_invocation_id) i: vec3<u32>) {}",
        ] {
            assert!(cut(&launch(text), 2).is_none());
        }
    }
}

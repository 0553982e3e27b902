//! Runs every committed file, and changed copies of it, through its target.

use lacuna_fuzz::TARGETS;
use std::{fs, panic, path::Path};

/// Number of changed files for a target, shared among all its files.
const CHANGES: usize = 3000;

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.display().to_string(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

/// A generator that gives the same numbers everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 16) as usize % limit.max(1)
    }
}

/// One change: a bit, a byte, a cut, an insertion, or a piece of this file or of another one.
fn change(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(bytes.len());
    let end = bytes.len().min(at + 1 + random.below(8));
    match random.below(6) {
        _ if bytes.is_empty() => bytes.push(random.next() as u8),
        0 => bytes[at] ^= 1 << random.below(8),
        // Digits and punctuation leave text readable more often than not.
        1 => bytes[at] = b"0123456789-.,:\"{}[] \n"[random.below(21)],
        2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
        3 => bytes.truncate(at),
        4 => drop(bytes.splice(at..end, [])),
        _ => {
            let from = random.below(other.len());
            let to = other.len().min(from + 1 + random.below(64));
            let keep = if random.below(2) == 0 { at } else { end };
            bytes.splice(at..keep, other[from..to].iter().copied());
        }
    }
}

#[test]
fn targets_hold_for_the_corpus_and_changes_of_it() {
    for (target, run) in TARGETS {
        let files = corpus(target);
        assert!(!files.is_empty(), "{target} has no files");
        for (name, bytes) in &files {
            panic::catch_unwind(|| run(bytes))
                .unwrap_or_else(|_| panic!("{target} fails for {name}"));
        }
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for i in 0..CHANGES {
            let (name, bytes) = &files[i % files.len()];
            let mut bytes = bytes.clone();
            for _ in 0..=random.below(4) {
                let other = &files[random.below(files.len())].1;
                change(&mut bytes, other, &mut random);
            }
            if panic::catch_unwind(|| run(&bytes)).is_err() {
                let found = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{target}-{i}"));
                fs::write(&found, &bytes).unwrap();
                panic!("{target} fails for {}, a change of {name}", found.display());
            }
        }
    }
}

#[test]
fn every_target_has_a_bin_and_every_folder_a_target() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names = |folder: &str| {
        let entries = fs::read_dir(root.join(folder)).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().path())
            .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    let mut targets = TARGETS.map(|(name, _)| name);
    targets.sort_unstable();
    assert_eq!(names("corpus"), targets);
    assert_eq!(names("fuzz_targets"), targets);
}

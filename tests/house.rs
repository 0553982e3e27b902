//! The layers ("floors") of the sources: imports point down only, and only `gpu` and what stands on
//! it knows wgpu.

use std::{fs, path::Path};

/// Floors from the ground up. A file may use its own floor and those below it.
const FLOORS: &[&[&str]] = &[
    &["error", "caps", "format"],
    &["compress", "reference"],
    &["kernel"],
    &["tuning"],
    &["gpu"],
    &["plan"],
    &["verify"],
    &["faults"],
    &["lib"],
];

fn floor(module: &str) -> usize {
    FLOORS
        .iter()
        .position(|f| f.contains(&module))
        .unwrap_or_else(|| panic!("{module} has no floor"))
}

fn visit(path: &Path, module: &str, check: &mut impl FnMut(&str, &str)) {
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let module = if module.is_empty() {
            stem.as_str()
        } else {
            module
        };
        if path.is_dir() {
            visit(&path, module, check);
        } else {
            check(module, &fs::read_to_string(&path).unwrap());
        }
    }
}

/// Names of this crate's modules that a source text imports.
fn imports(text: &str) -> Vec<&str> {
    let code: Vec<&str> = text
        .lines()
        .filter(|l| !l.trim_start().starts_with("//"))
        .collect();
    let mut found = vec![];
    let mut grouped = false;
    for line in code {
        if let Some(i) = line.find("crate::") {
            let rest = &line[i + "crate::".len()..];
            grouped = rest.starts_with('{') && !rest.contains('}');
            found.extend(
                rest.trim_start_matches('{')
                    .split([',', ' ', '}'])
                    .map(first_name),
            );
        } else if grouped {
            grouped = !line.contains('}') || line.contains("::{");
            found.extend([first_name(line.trim())]);
        }
    }
    found.retain(|n| FLOORS.concat().contains(n));
    found
}

fn first_name(path: &str) -> &str {
    path.split([':', ';', ',', '}', '(', '<'])
        .next()
        .unwrap_or("")
}

#[test]
fn imports_point_down_only() {
    let mut seen = 0;
    visit(Path::new("src"), "", &mut |module, text| {
        for used in imports(text) {
            seen += 1;
            assert!(
                floor(used) <= floor(module),
                "{module} uses {used}, which stands above it"
            );
        }
    });
    assert!(seen > 20, "the test found {seen} imports only");
}

#[test]
fn wgpu_is_known_to_the_upper_floors_only() {
    visit(Path::new("src"), "", &mut |module, text| {
        let knows = text
            .lines()
            .any(|l| !l.trim_start().starts_with("//") && l.contains("wgpu::"));
        assert!(
            !knows || floor(module) >= floor("gpu"),
            "{module} knows wgpu"
        );
    });
}

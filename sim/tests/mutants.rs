//! Planted bugs rot as the code around them changes: here that shows at once. Whether they are found is another matter,
//! which takes long: `cairn sim mutants`.

use std::fs;
use std::path::{Path, PathBuf};

use cairn_sim::mutants::{name_of, patches};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Applies the hunks of a patch to one file, as git does without a fuzz: each where its old lines stand, and only there.
fn apply(patch: &str) -> Result<(), String> {
    let (before, hunks) = patch.split_once("\n+++ b/").ok_or("no file is named")?;
    if before.lines().next().is_none_or(|why| !why.ends_with('.')) {
        return Err("it begins with no sentence that says what it is".to_owned());
    }
    let (path, hunks) = hunks.split_once('\n').ok_or("nothing follows the name of the file")?;
    if hunks.contains("\n+++ ") {
        return Err("it changes more than one file".to_owned());
    }
    let source =
        fs::read_to_string(root().join(path)).map_err(|error| format!("{path}: {error}"))?;
    for hunk in hunks.split("\n@@ ").filter(|hunk| !hunk.is_empty()) {
        let (place, lines) = hunk.split_once('\n').ok_or("a hunk without lines")?;
        let old = |line: &str| line.strip_prefix([' ', '-']).map(|line| format!("{line}\n"));
        // An empty line may have lost the blank before it.
        let old = |line: &str| if line.is_empty() { Some("\n".to_owned()) } else { old(line) };
        let expected: String = lines.lines().filter_map(old).collect();
        match source.matches(&expected).count() {
            1 => {}
            0 => return Err(format!("{path} has no such lines any more as at @@ {place}")),
            count => return Err(format!("{path} has {count} places like @@ {place}")),
        }
    }
    Ok(())
}

#[test]
fn every_planted_bug_still_applies() {
    let patches = patches(&root()).expect("sim/mutants exists");
    assert!(patches.len() > 40, "there are planted bugs");
    let rotten: Vec<String> = patches
        .iter()
        .filter_map(|path| {
            let text = fs::read_to_string(path).expect("readable");
            apply(&text).err().map(|why| format!("{}: {why}", name_of(path)))
        })
        .collect();
    assert!(rotten.is_empty(), "plant these anew: {rotten:#?}");
}

#[test]
fn every_planted_bug_is_in_the_table_and_nothing_else() {
    let table = fs::read_to_string(root().join("sim/mutants/README.md")).expect("readable");
    let mut named: Vec<&str> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" |"))
        .map(|(name, _)| name)
        .filter(|name| *name != "mutant")
        .collect();
    named.sort_unstable();
    let patches: Vec<String> =
        patches(&root()).expect("sim/mutants exists").iter().map(|path| name_of(path)).collect();
    assert_eq!(named, patches);
}

#[test]
fn a_patch_that_does_not_apply_is_noticed() {
    let patch = |line: &str| {
        format!(
            "Why.\n\n--- a/sim/src/lib.rs\n+++ b/sim/src/lib.rs\n@@ -1,1 +1,1 @@\n-{line}\n+x\n"
        )
    };
    assert_eq!(apply(&patch("pub mod mutants;")), Ok(()));
    assert!(apply(&patch("pub mod nothing_of_that_name;")).is_err());
}

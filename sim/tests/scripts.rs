//! Plays every golden script.

use std::path::Path;

use cairn_sim::{report, script};

#[test]
fn scripts_tell_what_they_told_before() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let update = std::env::var_os("UPDATE").is_some();
    let mut played = 0;
    for file in std::fs::read_dir(folder).expect("sim/scripts exists") {
        let path = file.expect("readable").path();
        let script = std::fs::read_to_string(&path).expect("readable");
        let told = script::run(&script).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        if update {
            std::fs::write(&path, &told).expect("writable");
        }
        if !update && told != script {
            let name = path.display().to_string();
            let page = Path::new(env!("CARGO_TARGET_TMPDIR")).join("script.html");
            std::fs::write(&page, report::page(&script::tell(&name, &script))).expect("writable");
            let page = page.display();
            panic!(
                "{name} tells another story now (UPDATE=1 writes it down; page: {page}):\n{told}"
            );
        }
        played += 1;
    }
    assert!(played > 0, "there are scripts");
}

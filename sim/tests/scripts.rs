//! Plays every golden script.

use std::path::Path;

#[test]
fn scripts_tell_what_they_told_before() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let update = std::env::var_os("UPDATE").is_some();
    let mut played = 0;
    for file in std::fs::read_dir(folder).expect("sim/scripts exists") {
        let path = file.expect("readable").path();
        let script = std::fs::read_to_string(&path).expect("readable");
        let told = cairn_sim::script::run(&script)
            .unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        if update {
            std::fs::write(&path, &told).expect("writable");
        }
        assert!(
            update || told == script,
            "{} tells another story now:\n{told}\n(UPDATE=1 writes it down)",
            path.display()
        );
        played += 1;
    }
    assert!(played > 0, "there are scripts");
}

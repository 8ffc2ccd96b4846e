//! Runs that once found a bug, kept as plans: what was done, deed by deed, instead of a seed that means something else
//! tomorrow. Each says in its first comment what it found. What ends with `_must_fail` is a canary.

use std::fs;
use std::path::Path;

use cairn_sim::fleet::run_plan;
use cairn_sim::plan::read;

#[test]
fn what_once_went_wrong_does_not() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("plans");
    let mut canaries = 0;
    for file in fs::read_dir(folder).expect("sim/plans exists") {
        let path = file.expect("readable").path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let plan = read(&fs::read_to_string(&path).expect("readable"))
            .unwrap_or_else(|unreadable| panic!("{name}: {unreadable}"));
        let report = run_plan(&plan, 40);
        let must_fail = name.ends_with("_must_fail");
        canaries += usize::from(must_fail);
        assert_eq!(report.violation.is_some(), must_fail, "{name}: {report}");
    }
    assert!(canaries > 0, "there is one that must fail");
}

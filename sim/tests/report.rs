//! Pages of runs: whole, bounded, and on their own. What they do in a browser is for `.ci/report`.

use cairn_sim::fleet::tell;
use cairn_sim::report::page;
use cairn_sim::run::Plan;
use cairn_sim::script;

/// What a browser takes from elsewhere begins like this; the page may not contain any.
const ELSEWHERE: [&str; 6] = ["<link", "src=", "url(", "@import", "fetch(", "<iframe"];

fn parts(page: &str) -> Vec<&str> {
    page.split("<script").skip(1).filter_map(|part| part.split("</script>").next()).collect()
}

#[test]
fn a_page_tells_of_the_violation_and_needs_nothing_else() {
    let (report, story) = tell(&Plan { canary: true, ..Plan::of(12) });
    let violation = report.violation.expect("a canary is heard");
    let page = page(&story);
    let [data, program] = parts(&page)[..] else { panic!("data, and a script that shows it") };
    assert!(data.contains(&format!("\"rule\":\"{}\"", violation.rule)), "the rule is told");
    for table in ["spans", "turns", "events", "messages", "questions", "applied", "slices"] {
        assert!(data.contains(&format!("\"{table}\":[[")), "there are {table}");
    }
    assert!(!data[1..].contains('<'), "no text of the run is taken for markup");
    assert!(!page.contains("{{"), "everything has its place in the frame");
    for (what, text) in [("page", page.replace(data, "")), ("script", program.to_owned())] {
        for elsewhere in ELSEWHERE {
            assert!(!text.contains(elsewhere), "the {what} has {elsewhere}");
        }
    }
}

#[test]
fn the_page_of_a_long_run_is_not_long() {
    // As long as a run may be, with as much as there may be in it.
    let (report, story) = tell(&Plan::of(3));
    assert!(report.tally.steps > 50_000, "{report}");
    assert!(story.record.messages.is_cut() || story.record.questions.seen > 3_000);
    let bytes = page(&story).len();
    assert!(bytes < 16 << 20, "{bytes} bytes");
}

#[test]
fn a_page_of_the_same_run_is_the_same_and_does_not_change_it() {
    let plan = Plan::of(12);
    let ((first, story), (second, again)) = (tell(&plan), tell(&plan));
    assert_eq!((first.hash, page(&story)), (second.hash, page(&again)));
    assert_eq!(first.hash, cairn_sim::fleet::run(12).hash, "who looks changes nothing");
}

#[test]
fn a_script_that_tells_another_story_is_shown_with_the_first_line_that_differs() {
    let text = "> members 1\n> start 1\n1 never starts\n";
    let violation = script::tell("s", text).violation.expect("it tells another story");
    assert!(violation.what.contains("1 never starts"), "{violation}");
    let told = script::run(text).expect("it can be played");
    assert_eq!(script::tell("s", &told).violation, None);
}

//! A run as a page that explains itself: one HTML file with everything in it, for a browser without a network.
//!
//! [`page`] puts the [`record`](crate::record) of a run, as [JSON](json), and what draws it (`report/*.js`) into the frame
//! of `report/page.html`. What is shown, and how a long run stays a page, is decided in two places: the record keeps the
//! last of what is frequent, and the drawing shows densities where single things would be too many.

use core::fmt::Write as _;

use crate::check::Violation;
use crate::record::{Record, SLICE_NS, Standing, Topic};
use crate::trace::Outcome;

mod json;
mod words;

use json::Json;

/// A run that somebody is to understand.
#[derive(Debug)]
pub struct Story {
    /// What it is called: `seed 4`.
    pub title: String,
    /// How to see it again.
    pub replay: String,
    /// What must not have happened, if it did.
    pub violation: Option<Violation>,
    /// What it was made of and what was done, by name.
    pub facts: Vec<(String, String)>,
    /// What happened.
    pub record: Box<Record>,
}

const FRAME: &str = include_str!("report/page.html");
const STYLE: &str = include_str!("report/style.css");
/// In this order: what is known, what is seen, how it is drawn, what is listed, who listens.
const SCRIPTS: [&str; 5] = [
    include_str!("report/data.js"),
    include_str!("report/view.js"),
    include_str!("report/draw.js"),
    include_str!("report/panel.js"),
    include_str!("report/main.js"),
];

/// The page. At most some megabytes, whatever the length of the run.
pub fn page(story: &Story) -> String {
    let title = escape(&format!("{} · Cairn's simulator", story.title));
    FRAME
        .replace("{{title}}", &title)
        .replace("{{style}}", STYLE)
        .replace("{{script}}", &SCRIPTS.concat())
        .replace("{{run}}", &data(story))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// What the page is told. The names are those that `report/data.js` reads.
fn data(story: &Story) -> String {
    let record = &story.record;
    let mut json = Json::object();
    json.text("title", &story.title);
    json.text("replay", &story.replay);
    json.text("story", &words::paragraph(story));
    json.number("end", record.end_ns);
    json.number("slice", SLICE_NS);
    if let Some(Violation { rule, what }) = &story.violation {
        json.field("violation", |json| {
            json.text("rule", rule);
            json.text("means", words::meaning(rule));
            json.text("what", what);
            json.number("at", record.end_ns);
        });
    }
    json.rows("facts", &story.facts, |row, (name, value)| {
        row.item_text(name);
        row.item_text(value);
    });
    json.rows("members", &record.members, |row, id| row.item(id.0));
    json.rows("spans", &record.spans, |row, span| {
        row.item(span.member.0);
        row.item_text(match span.standing {
            Standing::Up => "up",
            Standing::Paused => "paused",
        });
        row.item(span.from_ns);
        row.item(span.to_ns.unwrap_or(record.end_ns));
    });
    json.rows("turns", &record.turns.kept, |row, turn| {
        row.item(turn.at_ns);
        row.item(turn.member.0);
        row.item_text(&format!("{:?}", turn.role));
        row.item(turn.term);
        row.item(turn.leader.0);
    });
    json.rows("events", &record.events.kept, |row, told| {
        row.item(told.at_ns);
        row.item(told.member.map_or(0, |id| id.0));
        row.item_text(match told.topic {
            Topic::Fault => "fault",
            Topic::Phase => "phase",
            Topic::Event => "event",
            Topic::Life => "life",
            Topic::Note => "note",
            Topic::Watch => "watch",
        });
        row.item_text(&told.text);
    });
    json.rows("links", &record.links.kept, |row, links| {
        row.item(links.at_ns);
        row.item(u64::from(links.lossy));
        let pairs: Vec<_> =
            links.cuts.iter().map(|(from, to)| format!("{}>{}", from.0, to.0)).collect();
        row.item_text(&pairs.join(" "));
    });
    json.rows("messages", &record.messages.kept, |row, sent| {
        row.item(sent.at_ns);
        row.item(sent.from.0);
        row.item(sent.to.0);
        row.item_text(sent.kind);
        row.item_text(&sent.text);
        sent.fate.iter().flatten().for_each(|delay_ns| row.item(sent.at_ns + delay_ns));
    });
    json.rows("questions", &record.questions.kept, |row, question| {
        row.item(question.at_ns);
        row.item_text(
            &question.client.map_or_else(|| "operator".to_owned(), |client| client.to_string()),
        );
        row.item(question.member.0);
        row.item(question.id.0);
        row.item_text(&question.text);
        if let Some((at_ns, how, text)) = &question.end {
            row.item(*at_ns);
            row.item_text(match how {
                Outcome::Answered => "answered",
                Outcome::Refused => "refused",
                Outcome::Unknown => "unknown",
            });
            row.item_text(text);
        }
    });
    json.rows("applied", &record.applied.kept, |row, applied| {
        row.item(applied.at_ns);
        row.item(applied.member.0);
        row.item(applied.index);
        row.item(applied.revision.cast_unsigned());
    });
    json.rows("slices", &record.slices, |row, slice| {
        slice.iter().for_each(|count| row.item(u64::from(*count)));
    });
    let cut = [
        ("messages", record.messages.is_cut()),
        ("questions", record.questions.is_cut()),
        ("events", record.events.is_cut()),
        ("applied", record.applied.is_cut()),
    ];
    json.rows("cut", cut.iter().filter(|(_, is_cut)| *is_cut), |row, (name, _)| {
        row.item_text(name);
    });
    json.finish()
}

impl Story {
    /// What was done to the cluster, by kind, most often first: `3 Crash, 1 Partition`.
    fn faults(&self) -> String {
        let mut kinds = std::collections::BTreeMap::<&str, u64>::new();
        for told in self.record.events.kept.iter().filter(|told| told.topic == Topic::Fault) {
            let kind = told.text.split(' ').nth(1).unwrap_or("fault");
            *kinds.entry(kind).or_default() += 1;
        }
        let mut kinds: Vec<_> = kinds.into_iter().collect();
        kinds.sort_by_key(|(kind, count)| (core::cmp::Reverse(*count), *kind));
        let mut text = String::new();
        for (kind, count) in kinds {
            let comma = if text.is_empty() { "" } else { ", " };
            write!(text, "{comma}{count} {kind}").expect("strings grow");
        }
        text
    }
}

//! What a page says in words: the run in a paragraph, and what each rule means.

use super::Story;
use crate::record::{Standing, Topic};
use crate::trace::Outcome;

/// The run for somebody who did not write it.
pub(super) fn paragraph(story: &Story) -> String {
    let record = &story.record;
    let seconds = |ns: u64| format!("{}.{:03} s", ns / 1_000_000_000, ns / 1_000_000 % 1000);
    let lives = record.spans.iter().filter(|span| span.standing == Standing::Up).count();
    let crashes = record
        .events
        .kept
        .iter()
        .filter(|told| told.topic == Topic::Life && told.text.ends_with("crashes"))
        .count();
    let leads = |turn: &&crate::record::Turn| turn.role == cairn_engine::raft::RoleName::Leader;
    let reigns = record.turns.kept.iter().filter(leads).count();
    let ended = |how: Outcome| {
        let kept = record.questions.kept.iter();
        kept.filter(|question| question.end.as_ref().is_some_and(|end| end.1 == how)).count()
    };
    let mut text = format!(
        "{} of Cairn's engine ran here for {} of virtual time, in a world without a real clock, disk or network, in \
         which a seed, or a script, decides what happens when. ",
        count(record.members.len(), "member", "members"),
        seconds(record.end_ns),
    );
    text += &format!(
        "They were started {} and crashed {}; {}. ",
        count(lives, "time", "times"),
        count(crashes, "time", "times"),
        match reigns {
            0 => "nobody came to lead".to_owned(),
            _ => format!("{} began", count(reigns, "reign of a leader", "reigns of leaders")),
        },
    );
    let asked = usize::try_from(record.questions.seen).unwrap_or(usize::MAX);
    if asked > 0 {
        let part = if record.questions.is_cut() { "of the last of them " } else { "" };
        text += &format!(
            "Clients asked {}: {part}{} were answered, {} refused, and of {} nobody can know what became. ",
            count(asked, "question", "questions"),
            ended(Outcome::Answered),
            ended(Outcome::Refused),
            ended(Outcome::Unknown),
        );
    }
    match story.faults() {
        faults if faults.is_empty() => text += "Nothing was broken on purpose. ",
        faults => text += &format!("What was broken on purpose: {faults}. "),
    }
    text += &match &story.violation {
        None => "Every rule held to the end.".to_owned(),
        Some(violation) => format!(
            "At {} the rule “{}” was broken, and the run ended there: {}.",
            seconds(record.end_ns),
            violation.rule,
            meaning(violation.rule),
        ),
    };
    text
}

fn count(number: usize, one: &str, many: &str) -> String {
    if number == 1 { format!("one {one}") } else { format!("{number} {many}") }
}

/// What a rule asks for; what its breach says stands beside it.
pub(super) fn meaning(rule: &str) -> &'static str {
    match rule {
        "linearizability" => {
            "a client was told what was not so at any moment between its question and the answer"
        }
        "serializable read" => "a client was told what was never so",
        "monotone reads" => "a member told of the past after it had told of the present",
        "exactly once" => "something that was asked once was done twice",
        "refused" => "something was done of which a client was told that it is not",
        "answer" | "read index" | "hash" | "token" | "lease" | "canary" => {
            "a client was told something that no right store says"
        }
        "permission" => "somebody was let in who may not, or kept out who may",
        "election safety" => "two members lead in the same term",
        "elected by a majority" => "a member leads for which no majority voted",
        "one vote" => "a member voted for two in the same term",
        "leader completeness" => "a member leads that lacks what was committed",
        "log matching" => "two logs differ where they must be the same",
        "state machine safety" => "members applied different entries at the same place of the log",
        "commit by a majority" => "an entry was applied that no majority has on its disks",
        "commit" => "a member took back what it knew to be committed",
        "durability" => "something is gone that a disk had promised to keep",
        "durable term" => "a member went back to an earlier term",
        "recovery" => {
            "a member cannot start from what its disk holds, or starts from what it must not believe"
        }
        "apply" | "state" | "history" => {
            "a member's state is not what the model makes of the same log"
        }
        "digest" => "two members that applied the same have different states",
        "membership" | "one change at a time" => {
            "a member counts others than those whom the log says take part, or two changes overlap"
        }
        "trust" => "a lost disk was not noticed, or one that was not lost was taken for one",
        "halt" => "a member stopped without a reason",
        "lease not early" => "a lease ended before the time that its client was promised",
        "lease not late" => "a lease is still there long after its time",
        "lease time" => "the time that leases run by is not kept in the log",
        "liveness" => {
            "something that was under way did not come to its end though nothing stood in its way"
        }
        "bounds" | "budget" | "chores" => {
            "something grew, or happened, more often than its bound allows"
        }
        "assertion" => {
            "an assertion of the engine failed: it met a state that its author took for impossible"
        }
        "script" => "it tells another story than the one that somebody read with care",
        _ if rule.starts_with("watch") => {
            "a watcher missed an event, or was told one twice, too early, or wrongly"
        }
        _ => "see the chapters of sim/src/check",
    }
}

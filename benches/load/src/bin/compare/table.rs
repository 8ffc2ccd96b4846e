//! The rounds as a table in Markdown.

use core::fmt::Write as _;

use serde_json::Value;

use crate::rows::{Figure, ROWS, What};

/// Where a page has the table.
const MARKS: [&str; 2] = ["<!-- compare -->\n", "<!-- end of compare -->"];

/// The page with a new table; `None`: it has no place for one.
pub(crate) fn within(page: &str, table: &str) -> Option<String> {
    let (before, rest) = page.split_once(MARKS[0])?;
    let (_, after) = rest.split_once(MARKS[1])?;
    Some(format!("{before}{}{table}{}{after}", MARKS[0], MARKS[1]))
}

/// Tables of all rounds that were kept.
pub(crate) fn markdown(kept: &Value) -> String {
    let mut out = String::new();
    let rounds: Vec<&Value> = kept["rounds"].as_array().into_iter().flatten().collect();
    for members in 1..=9 {
        let of: Vec<&Value> =
            rounds.iter().copied().filter(|round| round["members"] == members).collect();
        if of.is_empty() {
            continue;
        }
        let who = if members == 1 { "one member".to_owned() } else { format!("{members} members") };
        let count = of.len();
        put(
            &mut out,
            format_args!(
                "| {who}, {count} rounds: median (least–most) | | Cairn | etcd | times better (of rounds) | goal |\n|---|---|---|---|---|---|\n"
            ),
        );
        for row in ROWS {
            for figure in row.figures {
                line(&mut out, row.name, *figure, members, &of);
            }
        }
        out.push('\n');
    }
    probes(&mut out, kept);
    out
}

fn line(out: &mut String, name: &str, figure: Figure, members: usize, rounds: &[&Value]) {
    let of = |system: &str| -> Vec<f64> {
        let runs = rounds.iter().map(|round| &round["systems"][system][name]);
        runs.filter_map(|run| figure.what.of(run)).collect()
    };
    let (cairn, etcd) = (of("cairn"), of("etcd"));
    if cairn.is_empty() || etcd.is_empty() {
        return;
    }
    let better = |cairn: f64, etcd: f64| {
        if figure.what.is_better_high() { cairn / etcd } else { etcd / cairn }
    };
    let ratio = better(median(&cairn), median(&etcd));
    let each: Vec<f64> =
        cairn.iter().zip(&etcd).map(|(&cairn, &etcd)| better(cairn, etcd)).collect();
    let ratio_text = if ratio.is_finite() {
        format!("{} ({}–{})", short(ratio), short(least(&each)), short(most(&each)))
    } else {
        "–".to_owned()
    };
    // Goals are those of one member.
    let goal = match figure.goal.filter(|_| members == 1) {
        None => String::new(),
        Some(goal) if ratio.is_finite() && ratio < goal => format!("{goal}: missed"),
        Some(goal) => format!("{goal}"),
    };
    let failed: u64 = ["cairn", "etcd"].iter().map(|system| failures(rounds, system, name)).sum();
    let failed = if failed == 0 { String::new() } else { format!(" ({failed} failed)") };
    put(
        out,
        format_args!(
            "| {name}{failed} | {} | {} | {} | {ratio_text} | {goal} |\n",
            figure.what.name(),
            spread(&cairn, figure.what),
            spread(&etcd, figure.what)
        ),
    );
}

/// Operations that failed or were never begun.
fn failures(rounds: &[&Value], system: &str, name: &str) -> u64 {
    let runs = rounds.iter().map(|round| &round["systems"][system][name]);
    let of = |run: &Value| {
        let errors = run["errors"].as_object();
        let errors = errors.into_iter().flat_map(serde_json::Map::values);
        errors.filter_map(Value::as_u64).sum::<u64>() + run["never_begun"].as_u64().unwrap_or(0)
    };
    runs.map(of).sum()
}

fn probes(out: &mut String, kept: &Value) {
    let runs = || kept["probes"].as_array().into_iter().flatten();
    let Some(first) = runs().next() else { return };
    out.push_str(
        "| limits of this machine, beside each round | p50, us | p99, us |\n|---|---|---|\n",
    );
    for (place, probe) in first["probes"].as_array().into_iter().flatten().enumerate() {
        let of = |name: &str| -> Vec<f64> {
            runs().filter_map(|run| run["probes"][place][name].as_f64()).collect()
        };
        let name = probe["name"].as_str().unwrap_or_default();
        let (p50, p99) = (of("p50_us"), of("p99_us"));
        put(
            out,
            format_args!(
                "| {name} | {} | {} |\n",
                spread(&p50, What::P50),
                spread(&p99, What::P99)
            ),
        );
    }
}

fn put(out: &mut String, what: core::fmt::Arguments<'_>) {
    out.write_fmt(what).expect("a string has room");
}

fn median(of: &[f64]) -> f64 {
    let mut sorted = of.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        length if length % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

fn least(of: &[f64]) -> f64 {
    of.iter().copied().fold(f64::INFINITY, f64::min)
}

fn most(of: &[f64]) -> f64 {
    of.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

fn spread(of: &[f64], what: What) -> String {
    let shown =
        |number: f64| if what == What::Rate { format!("{number:.0}") } else { short(number) };
    match of {
        [] => String::new(),
        [only] => shown(*only),
        _ => format!("{} ({}–{})", shown(median(of)), shown(least(of)), shown(most(of))),
    }
}

/// A number with about three digits.
fn short(number: f64) -> String {
    match number.abs() {
        size if size >= 100.0 => format!("{number:.0}"),
        size if size >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn medians_and_spreads_are_those_of_the_rounds() {
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0]), median(&[])), (2.0, 2.5, 0.0));
        assert_eq!(spread(&[1500.0, 1000.0, 2000.0], What::Rate), "1500 (1000–2000)");
        assert_eq!(spread(&[1.234], What::P99), "1.23");
    }

    #[test]
    fn higher_rates_and_lower_latencies_are_better() {
        let run = |rate: f64, p99: f64| json!({"kinds": [{"per_second": rate, "latency_us": {"p99": p99}}], "errors": {"a": 1}});
        let round = |cairn, etcd| json!({"members": 1, "systems": {"cairn": {"put, 1 x 1": cairn}, "etcd": {"put, 1 x 1": etcd}}});
        let kept = json!({"rounds": [round(run(3000.0, 10.0), run(1000.0, 50.0)), round(run(4000.0, 10.0), run(1000.0, 40.0))]});
        let text = markdown(&kept);
        assert!(
            text.contains("| 3500 (3000–4000) | 1000 (1000–1000) | 3.50 (3.00–4.00) | 1.5 |"),
            "{text}"
        );
        assert!(text.contains("| 4.50 (4.00–5.00) |"), "{text}");
        assert!(text.contains("(4 failed)"), "{text}");
    }

    #[test]
    fn a_page_keeps_what_is_around_the_table() {
        let page = "before\n<!-- compare -->\nold\n<!-- end of compare -->\nafter";
        let new = within(page, "new\n").unwrap();
        assert_eq!(new, "before\n<!-- compare -->\nnew\n<!-- end of compare -->\nafter");
        assert_eq!(within("nothing", "new"), None);
    }
}

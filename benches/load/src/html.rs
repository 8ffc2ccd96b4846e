//! A page with plots: one file, no scripts, nothing from elsewhere, light or dark as the reader has it.

use core::fmt::Write as _;

use serde_json::Value;

use crate::result::{Run, duration, text};

/// A line of a plot.
struct Line {
    name: String,
    points: Vec<[f64; 2]>,
}

/// How an axis is divided.
#[derive(Clone, Copy)]
enum Scale {
    Linear,
    Log,
}

/// A plot, without its lines.
struct Plot {
    title: &'static str,
    x: (&'static str, fn(f64) -> String),
    y: (&'static str, fn(f64) -> String),
    scale: Scale,
}

/// The page of some runs.
pub(crate) fn page(runs: &[Run]) -> String {
    let mut out = String::from(HEAD);
    put(
        &mut out,
        format_args!(
            "<h1>{}</h1>\n",
            escaped(&runs.iter().map(Run::title).collect::<Vec<_>>().join(" · "))
        ),
    );
    for run in runs {
        put(
            &mut out,
            format_args!(
                "<h2>{}</h2>\n<pre>{}</pre>\n",
                escaped(&run.title()),
                escaped(&run.table())
            ),
        );
    }
    let several = runs.len() > 1;
    let named = |run: &Run, kind: &str| match several {
        true => format!("{} {kind}", text(&run.0["label"])),
        false => kind.to_owned(),
    };
    let percentiles = Plot {
        title: "Latency by percentile",
        x: ("percentile", |nines| format!("{}", 100.0 - 10_f64.powf(2.0 - nines))),
        y: ("latency", duration),
        scale: Scale::Log,
    };
    let curves = runs.iter().flat_map(|run| run.kinds().map(move |kind| (run, kind)));
    let curves = curves.map(|(run, kind)| Line {
        name: named(run, &text(&kind["name"])),
        points: pairs(&kind["curve"]).map(|[q, us]| [-(1.0 - q).max(1e-9).log10(), us]).collect(),
    });
    percentiles.draw(&mut out, &curves.collect::<Vec<_>>());
    let rate = Plot {
        title: "Operations in each second",
        x: ("seconds", |seconds| format!("{seconds:.0}")),
        y: ("operations", |count| format!("{count:.0}")),
        scale: Scale::Linear,
    };
    let rates: Vec<_> = runs.iter().map(|run| series(run, "count", named(run, ""))).collect();
    rate.draw(&mut out, &rates);
    let latency = Plot {
        title: "Latency in each second",
        y: ("latency", duration),
        scale: Scale::Log,
        ..rate
    };
    let lines = runs
        .iter()
        .flat_map(|run| ["p50", "p99", "max"].map(|name| series(run, name, named(run, name))));
    latency.draw(&mut out, &lines.collect::<Vec<_>>());
    out.push_str("</main></body></html>\n");
    out
}

fn pairs(value: &Value) -> impl Iterator<Item = [f64; 2]> {
    let pair = |pair: &Value| Some([pair[0].as_f64()?, pair[1].as_f64()?]);
    value.as_array().into_iter().flatten().filter_map(pair)
}

fn series(run: &Run, of: &str, name: String) -> Line {
    let seconds = run.0["seconds"].as_array().into_iter().flatten();
    let points = (0_u32..)
        .zip(seconds)
        .map(|(second, told)| [f64::from(second), told[of].as_f64().unwrap_or(0.0)]);
    Line { name, points: points.collect() }
}

impl Plot {
    fn draw(&self, out: &mut String, lines: &[Line]) {
        let points = || lines.iter().flat_map(|line| &line.points);
        let most = |axis: usize| points().map(|point| point[axis]).fold(0.0, f64::max);
        let x_most = most(0).max(1.0);
        let (low, high) = match self.scale {
            Scale::Linear => (0.0, most(1).max(1.0) * 1.05),
            Scale::Log => {
                let least =
                    points().map(|point| point[1]).filter(|&y| y > 0.0).fold(f64::MAX, f64::min);
                let least = if least == f64::MAX { 1.0 } else { least };
                (least.log10().floor(), most(1).max(least * 10.0).log10().ceil())
            }
        };
        let place_x = |x: f64| LEFT + x / x_most * (WIDTH - LEFT - RIGHT);
        let place_y = |y: f64| {
            let y = match self.scale {
                Scale::Linear => y,
                Scale::Log => y.max(10_f64.powf(low)).log10(),
            };
            HEIGHT - BOTTOM - (y - low) / (high - low) * (HEIGHT - TOP - BOTTOM)
        };
        put(
            out,
            format_args!(
                "<figure><figcaption>{}</figcaption>\n<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n",
                self.title, self.title
            ),
        );
        let marks: Vec<f64> = match self.scale {
            Scale::Linear => (0_u32..=4).map(|part| f64::from(part) / 4.0 * high).collect(),
            Scale::Log => {
                let decades = (high - low).max(1.0) as u32;
                (0..=decades).map(|decade| 10_f64.powf(low + f64::from(decade))).collect()
            }
        };
        for mark in marks {
            let y = place_y(mark);
            put(
                out,
                format_args!(
                    "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text x=\"{}\" y=\"{:.1}\" class=\"y\">{}</text>\n",
                    WIDTH - RIGHT,
                    LEFT - 6.0,
                    y + 4.0,
                    (self.y.1)(mark)
                ),
            );
        }
        let steps = if x_most <= 8.0 { x_most.ceil() } else { 5.0 };
        let step = x_most / steps;
        for part in 0..=(steps as u32) {
            let value = f64::from(part) * step;
            put(
                out,
                format_args!(
                    "<text x=\"{:.1}\" y=\"{:.1}\" class=\"x\">{}</text>\n",
                    place_x(value),
                    HEIGHT - BOTTOM + 16.0,
                    (self.x.1)(value)
                ),
            );
        }
        put(
            out,
            format_args!(
                "<text x=\"{:.1}\" y=\"{:.1}\" class=\"x\">{}</text>\n",
                WIDTH / 2.0,
                HEIGHT - 4.0,
                self.x.0
            ),
        );
        for (number, line) in lines.iter().enumerate() {
            let class = number % COLOURS;
            let path: Vec<_> = line
                .points
                .iter()
                .map(|&[x, y]| format!("{:.1},{:.1}", place_x(x), place_y(y)))
                .collect();
            put(
                out,
                format_args!("<polyline class=\"c{class}\" points=\"{}\"/>\n", path.join(" ")),
            );
        }
        out.push_str("</svg><ul>");
        for (number, line) in lines.iter().enumerate() {
            put(
                out,
                format_args!("<li class=\"c{}\">{}</li>", number % COLOURS, escaped(&line.name)),
            );
        }
        put(out, format_args!("</ul><p>{}</p></figure>\n", self.y.0));
    }
}

fn put(out: &mut String, what: core::fmt::Arguments<'_>) {
    out.write_fmt(what).expect("a string has room");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 44.0;
/// Colours of lines, of which the page has this many.
const COLOURS: usize = 6;

const HEAD: &str = r#"<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>cairn bench</title><style>
:root{color-scheme:light dark;--ink:#1a1a1a;--paper:#fff;--grid:#ddd;
--c0:#0b62c4;--c1:#c4410b;--c2:#0b8a4a;--c3:#8a2be2;--c4:#b8860b;--c5:#c2185b}
@media (prefers-color-scheme:dark){:root{--ink:#e6e6e6;--paper:#14171a;--grid:#333a40;
--c0:#6cb2ff;--c1:#ff9d6c;--c2:#5fd99b;--c3:#c79bff;--c4:#e6c35c;--c5:#ff8ab5}}
body{background:var(--paper);color:var(--ink);font:15px/1.4 system-ui,sans-serif;margin:0}
main{max-width:900px;margin:auto;padding:16px}h1{font-size:20px}h2{font-size:16px}
pre{overflow-x:auto;font:13px/1.4 ui-monospace,monospace}figure{margin:24px 0}
figcaption{font-weight:600}svg{width:100%;height:auto}
svg text{fill:var(--ink);font-size:11px}.y{text-anchor:end}.x{text-anchor:middle}
.grid{stroke:var(--grid)}polyline{fill:none;stroke-width:2}
.c0{stroke:var(--c0)}.c1{stroke:var(--c1)}.c2{stroke:var(--c2)}.c3{stroke:var(--c3)}.c4{stroke:var(--c4)}.c5{stroke:var(--c5)}
li.c0{color:var(--c0)}li.c1{color:var(--c1)}li.c2{color:var(--c2)}li.c3{color:var(--c3)}li.c4{color:var(--c4)}li.c5{color:var(--c5)}
ul{display:flex;flex-wrap:wrap;gap:4px 24px;padding:0 0 0 16px}p{display:none}
</style></head><body><main>
"#;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_page_has_its_plots_and_nothing_from_elsewhere() {
        let kind = json!({"name": "<put>", "count": 2, "per_second": 1.0, "latency_us": {"p50": 10.0},
            "curve": [[0.0, 10.0], [0.9, 20.0], [0.99, 3000.0]]});
        let second = json!({"count": 2, "errors": 0, "p50": 1.0, "p99": 2.0, "max": 0.0});
        let run = |label| {
            Run(json!({"name": "n", "label": label, "kinds": [kind], "seconds": [second, second],
            "errors": {}, "never_begun": 0}))
        };
        let page = page(&[run("one"), run("two")]);
        assert_eq!(page.matches("<svg").count(), 3);
        assert_eq!(page.matches("<polyline").count(), 2 + 2 + 6);
        assert!(page.contains("two &lt;put&gt;") && !page.contains("<put>"));
        assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
        assert!(!page.contains("http") && !page.contains("<script"));
    }

    #[test]
    fn a_run_of_nothing_is_drawn() {
        let page = page(&[Run(
            json!({"name": "n", "label": "", "kinds": [], "seconds": [], "errors": {}}),
        )]);
        assert!(!page.contains("NaN") && page.matches("<svg").count() == 3);
    }
}

// What is seen: a part of the time, what is chosen, what is searched for.

const view = { from: 0, to: end, chosen: null, pointed: null, matches: [], match: -1, found: new Set() };
const GUTTER = 92, RIGHT = 18, NARROWEST = 20000;

let width = 1000;
const scale = () => (width - GUTTER - RIGHT) / (view.to - view.from);
const xOf = (at) => GUTTER + (at - view.from) * scale();
const atOf = (x) => view.from + (x - GUTTER) / scale();

function look(from, to) {
  const most = end * 1.02 + 1000;
  let span = Math.min(Math.max(to - from, NARROWEST), most);
  from = Math.min(Math.max(from, -0.01 * end), Math.max(most - span, -0.01 * end));
  view.from = from;
  view.to = from + span;
  changed();
}
const zoom = (factor, at = (view.from + view.to) / 2) =>
  look(at - (at - view.from) * factor, at + (view.to - at) * factor);
const pan = (part) => look(view.from + part * (view.to - view.from), view.to + part * (view.to - view.from));
const everything = () => look(-0.01 * end, end * 1.01);

// Brings a moment into view, as close as there is something to see around it.
function show(at) {
  const span = Math.min(view.to - view.from, closeness(at));
  if (at < view.from + 0.1 * span || at > view.to - 0.1 * span || view.to - view.from > span * 1.01)
    look(at - 0.6 * span, at + 0.4 * span);
}
// So much time as some hundred shown things take.
function closeness(at) {
  const shown = things.filter(isShown);
  const place = first(shown, at);
  const before = shown[Math.max(0, place - 240)], after = shown[Math.min(shown.length - 1, place + 120)];
  return before ? Math.max(after.at - before.at, NARROWEST * 5) : end;
}
function violation() {
  const span = closeness(end);
  look(end - 0.88 * span, end + 0.12 * span);
}

function choose(thing) {
  view.chosen = thing;
  if (thing) show(thing.at);
  tellChosen(thing);
  changed();
}

// The next thing of a list after, or before, what is chosen or the middle of the view.
function step(list, forwards) {
  if (!list.length) return;
  const here = view.chosen ? view.chosen.place : first(things, (view.from + view.to) / 2);
  const next = forwards ? list.find((one) => one.place > here) || list[0]
    : list.findLast((one) => one.place < here) || list[list.length - 1];
  choose(next);
}

function search(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const has = (thing) => {
    const all = `${thing.group} ${thing.text} ${thing.answer || ""} ${thing.how || ""}`.toLowerCase();
    return words.every((word) => all.includes(word));
  };
  view.matches = words.length ? things.filter((thing) => isShown(thing) && has(thing)) : [];
  view.found = new Set(view.matches);
  const what = view.matches.length === 1 ? "1 match" : `${view.matches.length} matches`;
  document.getElementById("found").textContent = words.length ? what : "";
  changed();
}

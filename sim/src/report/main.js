// Who listens: the pointer, the keyboard, the buttons.

let waiting = false;
function changed() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    draw();
    list();
    const span = view.to - view.from;
    byId("range").textContent = `${seconds(Math.max(0, view.from))} to ${seconds(Math.min(view.to, end))} of ${seconds(end)}, `
      + `${span < 1e9 ? millis(span) : seconds(span)} in view`;
    history.replaceState(null, "", `#${Math.round(view.from)}-${Math.round(view.to)}`);
  });
}

function theme(name) {
  document.documentElement.dataset.theme = name;
  readColours();
  changed();
}
const otherTheme = () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");

// What the pointer is at: the last drawn lies on top; of lines, the nearest.
function at(x, y) {
  let best = null, nearest = 5;
  for (let place = spots.length - 1; place >= 0; place -= 1) {
    const [x1, y1, x2, y2, thing, line] = spots[place];
    if (!line) {
      if (x >= x1 && x <= x2 && y >= y1 && y <= y2 && !thing.passive) return thing;
      if (x >= x1 && x <= x2 && y >= y1 && y <= y2) best = best || thing;
      continue;
    }
    const long = (x2 - x1) ** 2 + (y2 - y1) ** 2 || 1;
    const part = Math.min(1, Math.max(0, ((x - x1) * (x2 - x1) + (y - y1) * (y2 - y1)) / long));
    const far = Math.hypot(x - x1 - part * (x2 - x1), y - y1 - part * (y2 - y1));
    if (far < nearest) [best, nearest] = [thing, far];
  }
  return best;
}

let drag = null;
stage.addEventListener("pointerdown", (event) => {
  drag = { x: event.offsetX, from: view.from, to: view.to, moved: false };
  stage.setPointerCapture(event.pointerId);
});
stage.addEventListener("pointermove", (event) => {
  if (!drag) {
    view.pointed = at(event.offsetX, event.offsetY);
    tip(view.pointed, event.offsetX, event.offsetY);
    return draw();
  }
  const by = event.offsetX - drag.x;
  if (Math.abs(by) > 3) drag.moved = true;
  if (drag.moved) {
    stage.classList.add("moving");
    tip(null);
    look(drag.from - by / scale(), drag.to - by / scale());
  }
});
stage.addEventListener("pointerup", (event) => {
  stage.classList.remove("moving");
  if (drag && !drag.moved) {
    const thing = at(event.offsetX, event.offsetY);
    view.chosen = thing && !thing.passive ? thing : null;
    tellChosen(thing);
    changed();
  }
  drag = null;
});
stage.addEventListener("pointerleave", () => { view.pointed = null; tip(null); draw(); });
stage.addEventListener("dblclick", (event) => zoom(0.4, atOf(event.offsetX)));
stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) pan(event.deltaX / width);
  else zoom(Math.exp(event.deltaY * 0.0022), atOf(event.offsetX));
}, { passive: false });

const overviewAt = (event) => ((event.offsetX - GUTTER) / (overview.clientWidth - GUTTER - RIGHT)) * end;
let brush = null;
overview.addEventListener("pointerdown", (event) => {
  brush = overviewAt(event);
  overview.setPointerCapture(event.pointerId);
  const half = (view.to - view.from) / 2;
  look(brush - half, brush + half);
});
overview.addEventListener("pointermove", (event) => {
  if (brush === null) return;
  const here = overviewAt(event);
  if (Math.abs(here - brush) * (overview.clientWidth / end) > 4) look(Math.min(brush, here), Math.max(brush, here));
});
overview.addEventListener("pointerup", () => { brush = null; });

const keys = {
  "ArrowLeft": () => pan(-0.2), "ArrowRight": () => pan(0.2), "+": () => zoom(0.6), "=": () => zoom(0.6), "ArrowUp": () => zoom(0.6),
  "-": () => zoom(1.6), "ArrowDown": () => zoom(1.6), "0": everything, "Home": everything, "v": violation, "n": () => step(faults, true),
  "p": () => step(faults, false), "t": otherTheme, "/": () => byId("search").focus(),
  "]": () => step(things.filter(isShown), true), "[": () => step(things.filter(isShown), false),
  "Escape": () => { byId("search").value = ""; search(""); choose(null); },
};
document.addEventListener("keydown", (event) => {
  const writes = event.target.id === "search";
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (writes && event.key === "Enter") return step(view.matches, !event.shiftKey);
  if (writes && event.key === "Escape") { event.target.blur(); return keys.Escape(); }
  if (writes || !keys[event.key]) return;
  // The table scrolls by itself.
  event.preventDefault();
  keys[event.key]();
});
byId("search").addEventListener("input", (event) => search(event.target.value));
byId("in").addEventListener("click", () => zoom(0.6));
byId("out").addEventListener("click", () => zoom(1.6));
byId("fit").addEventListener("click", everything);
byId("jump").addEventListener("click", violation);
byId("theme").addEventListener("click", otherTheme);
byId("copy").addEventListener("click", () => navigator.clipboard?.writeText(run.replay));
window.addEventListener("resize", changed);

byId("title").textContent = run.title[0].toUpperCase() + run.title.slice(1);
byId("verdict").textContent = run.violation ? `FAILS: ${run.violation.rule}` : "every rule held";
byId("verdict").classList.toggle("bad", Boolean(run.violation));
byId("replay").textContent = run.replay;
byId("story").textContent = run.story;
byId("violation").hidden = !run.violation;
if (run.violation) {
  byId("rule").textContent = `${run.violation.rule}, at ${seconds(run.violation.at)}: ${run.violation.means}`;
  byId("what").textContent = run.violation.what;
}
byId("facts").replaceChildren(...run.facts.flatMap(([name, value]) => [make("dt", name), make("dd", value)]));
chips();
legend();
theme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
const asked = location.hash.match(/^#(-?\d+)-(\d+)$/);
if (asked) look(Number(asked[1]), Number(asked[2]));
else if (run.violation) violation();
else everything();

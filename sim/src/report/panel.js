// What is listed: the same in words, for whoever reads rather than looks, and the details of one thing.

const ROWS_MAX = 400;
const byId = (id) => document.getElementById(id);
const make = (name, text, kind) => {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  if (kind) element.className = kind;
  return element;
};

// Who it is about, in a few words.
function about(thing) {
  if (thing.message) return `${thing.group} ${thing.from ?? thing.member} → ${thing.to}`;
  if (thing.group === "question") return `${thing.client === "operator" ? "operator" : `client ${thing.client}`} → ${thing.member}`;
  return thing.member ? `${thing.group} ${thing.member}` : thing.group;
}
function became(thing) {
  if (thing.message) return thing.arrivals.length ? "" : " (lost)";
  if (thing.group !== "question") return "";
  return thing.how === "open" ? " (never answered)" : ` (${thing.how})`;
}

let listed = [];
function list() {
  const from = first(things, view.from);
  listed = [];
  for (let place = from; place < things.length && things[place].at <= view.to; place += 1)
    if (isShown(things[place])) listed.push(things[place]);
  const all = listed.length;
  // Around what is chosen; else, the last: a story is read from its end.
  const centre = view.chosen && listed.includes(view.chosen) ? listed.indexOf(view.chosen) + ROWS_MAX / 2 : all;
  const last = Math.min(all, Math.max(ROWS_MAX, centre));
  listed = listed.slice(Math.max(0, last - ROWS_MAX), last);
  byId("listed").textContent = all > listed.length ? `${listed.length} of ${all} lines; come closer for the others` : `${all} lines`;
  const rows = listed.map((thing) => {
    const row = make("tr");
    row.className = `${thing === view.chosen ? "chosen" : ""} ${view.found.has(thing) ? "match" : ""}`;
    const kind = make("td", "", "kind"), dot = make("i");
    dot.style.setProperty("--c", `var(--${thing.group === "question" ? howName(thing.how) : thing.colour})`);
    kind.append(dot, about(thing));
    row.append(make("td", millis(thing.at), "time"), kind, make("td", thing.text + became(thing), "text"));
    row.addEventListener("click", () => choose(thing));
    return row;
  });
  byId("rows").replaceChildren(...rows);
  const row = listed.indexOf(view.chosen);
  if (row >= 0) {
    const box = byId("rows").closest(".scroll"), chosen = rows[row];
    box.scrollTop = chosen.offsetTop - box.clientHeight / 2;
  }
}
const howName = (how) => ({ answered: "ok", refused: "refused", unknown: "unknown" }[how] || "bad");

function facts(thing) {
  const rows = [["what", `${about(thing)}${became(thing)}`], ["when", `${millis(thing.at)}`]];
  if (thing.message && thing.arrivals.length)
    rows.push(["arrives", thing.arrivals.map((at) => `${millis(at)}, after ${millis(at - thing.at)}`).join("; ")]);
  if (thing.group === "question") {
    rows.push(["asked", thing.text]);
    if (thing.how !== "open") rows.push([thing.how, `${thing.answer}`], ["ended", `${millis(thing.until)}, after ${millis(thing.until - thing.at)}`]);
    rows.push(["name", `${thing.id}`]);
  } else {
    rows.push(["text", thing.text]);
    if (!thing.message && thing.until) rows.push(["until", millis(thing.until)]);
  }
  return rows;
}
function tellChosen(thing) {
  const rows = thing ? facts(thing).flatMap(([name, value]) => [make("dt", name), make("dd", value)])
    : [make("dd", "Point at something, or click on it to keep it here.", "quiet")];
  byId("chosen").replaceChildren(...rows);
}

function tip(thing, x, y) {
  const box = byId("tip");
  box.hidden = !thing;
  if (!thing) return;
  const head = make("b", `${about(thing)}${became(thing)}`);
  const until = thing.until && thing.until !== thing.at ? ` – ${millis(thing.until)}` : "";
  box.replaceChildren(head, make("div", thing.text), make("span", `${millis(thing.at)}${until}`));
  if (thing.answer) box.insertBefore(make("div", `⇒ ${thing.answer}`), box.lastChild);
  const left = Math.min(x + 14, width - box.offsetWidth - 6);
  box.style.left = `${Math.max(4, left)}px`;
  box.style.top = `${y + 18}px`;
}

function chips() {
  const order = ["fault", "life", "role", "event", "question", "watch", "note"];
  const sorted = [...groups.values()].filter((group) => group.name !== "phase")
    .sort((a, b) => (order.indexOf(a.name) + 99) % 99 - (order.indexOf(b.name) + 99) % 99 || b.count - a.count);
  byId("chips").replaceChildren(...sorted.map((group) => {
    const chip = make("button", undefined, "chip");
    chip.type = "button";
    chip.dataset.group = group.name;
    chip.style.setProperty("--c", `var(--${group.colour})`);
    chip.setAttribute("aria-pressed", String(group.shown));
    chip.title = "Click to show or hide; with shift: only these";
    chip.append(make("i"), group.name, make("small", String(group.count)));
    chip.addEventListener("click", (event) => {
      if (event.shiftKey) groups.forEach((other) => { other.shown = other === group; });
      else group.shown = !group.shown;
      chips();
      search(byId("search").value);
    });
    return chip;
  }));
}

function legend() {
  const rows = [["leader", "leads"], ["candidate", "stands for election"], ["follower", "follows or learns"], ["down", "is down"],
    ["paused", "stands still"], ["mark fault", "something is broken"], ["ok", "question: answered"], ["refused", "question: refused"],
    ["unknown", "question: who knows?"], ["bad", "question: never answered"], ["lines bad", "link cut; message lost"], ["lines append", "entries of the log"],
    ["lines ack", "entries are durable"], ["lines vote", "votes"], ["lines snapshot", "snapshot"], ["lines passed", "passed on to the leader"]];
  byId("legend").replaceChildren(...rows.map(([look, text]) => {
    const row = make("div"), box = make("i", undefined, look);
    box.style.setProperty("--c", `var(--${look.split(" ").pop()})`);
    row.append(box, text);
    return row;
  }));
}

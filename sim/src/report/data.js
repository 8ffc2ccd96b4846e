// What is known: the run's tables as things with a time, and the order in which they happened.

const run = JSON.parse(document.getElementById("run").textContent);
const end = Math.max(run.end, 1);

// Colours are names of the style sheet's variables.
const COLOURS = {
  "fault": "fault", "life": "bad", "role": "leader", "event": "other", "note": "other", "watch": "read", "phase": "quiet",
  "question": "ok", "append": "append", "append ack": "ack", "vote": "vote", "pre-vote": "prevote", "heartbeat": "heartbeat",
  "snapshot": "snapshot", "passed on": "passed", "read index": "read", "digest": "other", "trust": "select", "other": "other",
};
const QUIET = new Set(["heartbeat", "digest", "watch", "phase"]);

const things = [];
const add = (group, at, member, text, more = {}) =>
  things.push({ group, at, member, text, colour: COLOURS[group] || "other", ...more });

for (const [at, member, topic, text] of run.events) add(topic, at, member, text);
for (const [at, member, role, term, leader] of run.turns) {
  const whom = role === "Follower" && leader ? ` of ${leader}` : "";
  add("role", at, member, `${member} becomes ${role.toLowerCase()}${whom} in term ${term}`, { role, term });
}
for (const [at, from, to, kind, text, ...arrivals] of run.messages)
  add(kind, at, from, text, { message: true, from, to, arrivals, until: Math.max(at, ...arrivals) });
for (const [at, client, member, id, text, until, how, answer] of run.questions)
  add("question", at, member, text, { client, id, until: until ?? end, how: how || "open", answer });
things.sort((a, b) => a.at - b.at);
things.forEach((thing, place) => { thing.place = place; });

const groups = new Map();
for (const thing of things) {
  const group = groups.get(thing.group) || { name: thing.group, count: 0, colour: thing.colour, shown: !QUIET.has(thing.group) };
  group.count += 1;
  groups.set(thing.group, group);
}
const isShown = (thing) => groups.get(thing.group).shown;
const messages = things.filter((thing) => thing.message);
const questions = things.filter((thing) => thing.group === "question");
const faults = things.filter((thing) => thing.group === "fault");
const marks = things.filter((thing) => ["fault", "life", "event", "note", "watch"].includes(thing.group));
const phases = things.filter((thing) => thing.group === "phase");
const members = run.members.map(([id]) => id);
const clients = [...new Set(questions.map((question) => question.client))]
  .sort((a, b) => (a === "operator") - (b === "operator") || a - b);
// Before this, only how much there was is known.
const known = run.cut.length ? Math.max(0, ...run.cut.map(([name]) => (run[name][0] || [0])[0])) : 0;

// Each member's roles as stretches of time, cut where it did not run.
const stretches = new Map(members.map((id) => [id, []]));
for (const id of members) {
  const turns = run.turns.filter((turn) => turn[1] === id);
  for (const [member, how, from, to] of run.spans) {
    if (member !== id || how !== "up") continue;
    const within = turns.filter((turn) => turn[0] >= from && turn[0] < to);
    const before = { role: "Follower", term: 0, from };
    const list = [before, ...within.map((turn) => ({ role: turn[2], term: turn[3], from: turn[0] }))];
    list.forEach((one, place) => {
      one.to = place + 1 < list.length ? list[place + 1].from : to;
      one.member = id;
      if (one.to > one.from) stretches.get(id).push(one);
    });
  }
}
const pauses = run.spans.filter((span) => span[1] === "paused");

// The first place in a list of things at or after a time.
const first = (list, at, time = (one) => one.at) => {
  let low = 0, high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (time(list[middle]) < at) low = middle + 1; else high = middle;
  }
  return low;
};
const millis = (ns) => `${(ns / 1e6).toFixed(3)} ms`;
const seconds = (ns) => `${(ns / 1e9).toFixed(3)} s`;

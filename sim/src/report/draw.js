// How it is drawn: an overview of the whole run, and the part that is looked at.

const stage = document.getElementById("stage"), overview = document.getElementById("overview");
const AXIS = 24, PHASE = 18, LANE = 74, BAR = 20, CLIENT = 15, GAP = 12, DENSE = 700;
const top = AXIS + PHASE + 6;
const laneOf = new Map(members.map((id, place) => [id, top + place * LANE + 26]));
const middle = (id) => laneOf.get(id) + BAR / 2;
const clientsTop = top + members.length * LANE + GAP;
const height = clientsTop + (clients.length ? 18 + clients.length * CLIENT : 0) + 10;
const rowOf = new Map(clients.map((name, place) => [name, clientsTop + 16 + place * CLIENT]));

let colours = {};
function readColours() {
  const style = getComputedStyle(document.documentElement);
  const names = new Set([...Object.values(COLOURS), "ground", "card", "text", "quiet", "line", "lane", "leader", "candidate",
    "follower", "learner", "ink", "refused", "unknown", "bad", "accent", "select"]);
  colours = Object.fromEntries([...names].map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}
function sized(canvas, tall) {
  const ratio = window.devicePixelRatio || 1;
  const wide = canvas.clientWidth;
  canvas.style.height = `${tall}px`;
  if (canvas.width !== Math.round(wide * ratio) || canvas.height !== Math.round(tall * ratio)) {
    canvas.width = Math.round(wide * ratio);
    canvas.height = Math.round(tall * ratio);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, wide, tall);
  pen.font = "12px system-ui, 'DejaVu Sans', sans-serif";
  pen.textBaseline = "middle";
  return pen;
}
const roleColour = (role) =>
  colours[{ Leader: "leader", Candidate: "candidate", PreCandidate: "candidate", Learner: "learner" }[role] || "follower"];
const howColour = (how) => colours[{ answered: "ok", refused: "refused", unknown: "unknown" }[how] || "bad"];

let spots = []; // What can be pointed at: [left, top, right, bottom, thing], or [x1, y1, x2, y2, thing, "line"].

function draw() {
  width = stage.clientWidth;
  const pen = sized(stage, height);
  spots = [];
  drawAxis(pen);
  drawLanes(pen);
  pen.save();
  pen.beginPath();
  pen.rect(GUTTER, 0, width - GUTTER, height);
  pen.clip();
  drawRoles(pen);
  drawCuts(pen);
  drawMessages(pen);
  drawQuestions(pen);
  drawMarks(pen);
  drawEnd(pen);
  drawChosen(pen);
  pen.restore();
  drawOverview();
}

function drawAxis(pen) {
  const span = view.to - view.from;
  const about = span / Math.max(2, (width - GUTTER) / 120);
  const unit = 10 ** Math.floor(Math.log10(about));
  const tick = [1, 2, 5, 10].map((n) => n * unit).find((n) => n >= about);
  pen.textAlign = "center";
  const digits = Math.max(0, -Math.floor(Math.log10(tick / 1e9)));
  for (let at = Math.ceil(view.from / tick) * tick; at <= view.to; at += tick) {
    const x = xOf(at);
    if (x < GUTTER) continue;
    pen.fillStyle = colours.line;
    pen.fillRect(x, AXIS - 4, 1, height);
    pen.fillStyle = colours.quiet;
    pen.fillText(tick >= 1e8 ? `${(at / 1e9).toFixed(Math.min(digits, 3))} s` : `${(at / 1e6).toFixed(Math.max(0, digits - 3))} ms`, x, 11);
  }
  if (known > view.from) {
    pen.fillStyle = colours.lane;
    pen.fillRect(GUTTER, AXIS, Math.max(0, xOf(known) - GUTTER), height);
    pen.fillStyle = colours.quiet;
    pen.textAlign = "right";
    if (xOf(known) > GUTTER + 260) pen.fillText("earlier: of what is frequent, only how much there was ▸", xOf(known) - 8, height - 12);
  }
}

function drawLanes(pen) {
  phases.forEach((phase, place) => {
    const to = place + 1 < phases.length ? phases[place + 1].at : end;
    const left = Math.max(xOf(phase.at), GUTTER), right = Math.min(xOf(to), width - RIGHT / 2);
    if (right <= left) return;
    pen.fillStyle = place % 2 ? colours.lane : colours.line;
    pen.fillRect(left, AXIS, right - left, PHASE - 3);
    pen.fillStyle = colours.quiet;
    pen.textAlign = "left";
    if (right - left > 44) pen.fillText(phase.text.replace("phase ", ""), left + 6, AXIS + 8);
  });
  for (const id of members) {
    const y = laneOf.get(id);
    pen.fillStyle = colours.lane;
    pen.fillRect(GUTTER, y, width - GUTTER - RIGHT / 2, BAR);
    pen.fillStyle = colours.text;
    pen.textAlign = "right";
    pen.font = "600 13px system-ui, 'DejaVu Sans', sans-serif";
    pen.fillText(`member ${id}`, GUTTER - 12, y + BAR / 2);
    pen.font = "12px system-ui, 'DejaVu Sans', sans-serif";
  }
  pen.textAlign = "right";
  pen.fillStyle = colours.quiet;
  if (clients.length) pen.fillText("asked by", GUTTER - 12, clientsTop + 6);
  for (const name of clients)
    pen.fillText(name === "operator" ? "operator" : `client ${name}`, GUTTER - 12, rowOf.get(name) + CLIENT / 2);
}

function drawRoles(pen) {
  pen.textAlign = "left";
  for (const id of members) {
    const y = laneOf.get(id);
    for (const one of stretches.get(id)) {
      if (one.to < view.from || one.from > view.to) continue;
      const left = Math.max(xOf(one.from), GUTTER), right = Math.max(xOf(one.to), left + 1);
      pen.fillStyle = roleColour(one.role);
      pen.fillRect(left, y, right - left, BAR);
      const label = one.role === "Follower" ? `term ${one.term}` : `${one.role.toLowerCase()}, term ${one.term}`;
      if (one.term && right - left > pen.measureText(label).width + 12) {
        pen.fillStyle = one.role === "Follower" ? colours.text : colours.ink;
        pen.fillText(label, left + 6, y + BAR / 2 + 0.5);
      }
      const text = `${id} is ${one.role.toLowerCase()}, term ${one.term || "?"}`;
      spots.push([left, y, right, y + BAR, { group: "role", at: one.from, until: one.to, member: id, text, colour: "leader", passive: true }]);
    }
  }
  for (const [id, , from, to] of pauses) {
    if (to < view.from || from > view.to) continue;
    const y = laneOf.get(id), left = Math.max(xOf(from), GUTTER), right = Math.max(Math.min(xOf(to), width), left + 2);
    pen.save();
    pen.beginPath();
    pen.rect(left, y, right - left, BAR);
    pen.clip();
    pen.strokeStyle = colours.card;
    pen.lineWidth = 2;
    for (let x = left - BAR; x < right; x += 6) {
      pen.beginPath();
      pen.moveTo(x, y + BAR);
      pen.lineTo(x + BAR, y);
      pen.stroke();
    }
    pen.restore();
    spots.push([left, y, right, y + BAR, { group: "note", at: from, until: to, member: id, text: `${id} stands still`, colour: "quiet", passive: true }]);
  }
  drawApplied(pen);
}

// How far each member got, as numbers where there is room for them.
function drawApplied(pen) {
  pen.fillStyle = colours.quiet;
  pen.font = "10px system-ui, 'DejaVu Sans', sans-serif";
  const free = new Map();
  for (let place = first(run.applied, view.from, (one) => one[0]); place < run.applied.length; place += 1) {
    const [at, id, index, revision] = run.applied[place];
    if (at > view.to) break;
    const x = xOf(at), y = laneOf.get(id) + BAR;
    pen.fillRect(x, y, 1, 4);
    if (x > (free.get(id) || 0)) {
      const label = `${index}`;
      pen.fillText(label, x + 3, y + 8);
      free.set(id, x + pen.measureText(label).width + 16);
    }
    spots.push([x - 2, y, x + 3, y + 13, { group: "applied", at, member: id, colour: "quiet", passive: true,
      text: `${id} has applied entry ${index}, revision ${revision}` }]);
  }
  pen.font = "12px system-ui, 'DejaVu Sans', sans-serif";
}

// Directed links that carry nothing: a line under the lane of whoever is not heard.
function drawCuts(pen) {
  run.links.forEach(([at, lossy, pairs], place) => {
    const to = place + 1 < run.links.length ? run.links[place + 1][0] : end;
    if (to < view.from || at > view.to) return;
    const left = Math.max(xOf(at), GUTTER), right = Math.max(xOf(to), left + 1);
    if (lossy) {
      pen.fillStyle = colours.fault;
      pen.globalAlpha = 0.07;
      pen.fillRect(left, top, right - left, members.length * LANE);
      pen.globalAlpha = 1;
    }
    const from = new Map();
    for (const pair of pairs.split(" ").filter(Boolean)) {
      const [a, b] = pair.split(">");
      from.set(a, [...(from.get(a) || []), b]);
    }
    for (const [a, list] of from) {
      const y = (laneOf.get(Number(a)) ?? -99) + BAR + 17;
      pen.fillStyle = colours.bad;
      pen.fillRect(left, y, right - left, 2);
      const label = `✂ to ${list.join(", ")}`;
      if (right - left > pen.measureText(label).width + 8) pen.fillText(label, left + 3, y + 9);
      spots.push([left, y - 2, right, y + 14, { group: "fault", at, until: to, member: Number(a), colour: "bad", passive: true,
        text: `nothing that ${a} says arrives at ${list.join(", ")}` }]);
    }
  });
}

function drawMessages(pen) {
  const shown = [];
  for (let place = first(messages, view.from - 2e9); place < messages.length && messages[place].at <= view.to; place += 1)
    if (messages[place].until >= view.from && isShown(messages[place])) shown.push(messages[place]);
  if (shown.length > DENSE) return drawDensity(pen, shown);
  for (const message of shown) drawMessage(pen, message, 1);
}

function drawMessage(pen, message, wide) {
  const x1 = xOf(message.at), down = laneOf.get(message.to) > laneOf.get(message.from);
  if (!laneOf.has(message.to) || !laneOf.has(message.from)) return;
  const y1 = laneOf.get(message.from) + (down ? BAR : 0), y2 = laneOf.get(message.to) + (down ? 0 : BAR);
  pen.lineWidth = wide;
  pen.strokeStyle = pen.fillStyle = colours[message.colour];
  const lost = !message.arrivals.length;
  for (const arrival of lost ? [message.at + 26 / scale()] : message.arrivals) {
    const x2 = xOf(arrival), part = lost ? 0.4 : 1;
    const ex = x1 + (x2 - x1) * part, ey = y1 + (y2 - y1) * part;
    pen.setLineDash(lost ? [3, 3] : []);
    pen.beginPath();
    pen.moveTo(x1, y1);
    pen.lineTo(ex, ey);
    pen.stroke();
    pen.setLineDash([]);
    if (lost) {
      pen.strokeStyle = colours.bad;
      pen.beginPath();
      pen.moveTo(ex - 3, ey - 3); pen.lineTo(ex + 3, ey + 3); pen.moveTo(ex + 3, ey - 3); pen.lineTo(ex - 3, ey + 3);
      pen.stroke();
      pen.strokeStyle = colours[message.colour];
    } else {
      const angle = Math.atan2(ey - y1, ex - x1);
      pen.beginPath();
      pen.moveTo(ex, ey);
      pen.lineTo(ex - 7 * Math.cos(angle - 0.4), ey - 7 * Math.sin(angle - 0.4));
      pen.lineTo(ex - 7 * Math.cos(angle + 0.4), ey - 7 * Math.sin(angle + 0.4));
      pen.fill();
    }
    spots.push([x1, y1, ex, ey, message, "line"]);
  }
  pen.lineWidth = 1;
}

// Too many to be told apart: how many each member sent, by kind.
function drawDensity(pen, shown) {
  const column = 4, counts = new Map();
  let most = 1;
  for (const message of shown) {
    const key = `${message.from} ${Math.floor(xOf(message.at) / column)}`;
    const kinds = counts.get(key) || { all: 0 };
    kinds[message.colour] = (kinds[message.colour] || 0) + 1;
    kinds.all += 1;
    most = Math.max(most, kinds.all);
    counts.set(key, kinds);
  }
  for (const [key, kinds] of counts) {
    const [id, place] = key.split(" ").map(Number);
    let y = (laneOf.get(id) ?? -99) - 1;
    const room = 18;
    for (const [colour, count] of Object.entries(kinds)) {
      if (colour === "all") continue;
      const tall = Math.max(0.5, room * Math.sqrt(kinds.all / most) * count / kinds.all);
      pen.fillStyle = colours[colour];
      pen.fillRect(place * column, y - tall, column - 1, tall);
      y -= tall;
    }
    spots.push([place * column, laneOf.get(id) - 19, place * column + column, laneOf.get(id), { group: "message", member: id, passive: true,
      colour: "append", at: atOf(place * column), text: `${kinds.all} messages sent by ${id}; come closer to see each` }]);
  }
  pen.fillStyle = colours.quiet;
  pen.textAlign = "right";
  pen.fillText("messages: how many each sent; come closer to see them", width - RIGHT, top - 2);
}

function drawQuestions(pen) {
  if (groups.get("question") && !groups.get("question").shown) return;
  for (const question of questions) {
    if (question.until < view.from || question.at > view.to) continue;
    const left = Math.max(xOf(question.at), GUTTER), right = Math.max(Math.min(xOf(question.until), width), left + 2);
    const y = rowOf.get(question.client);
    pen.fillStyle = howColour(question.how);
    pen.globalAlpha = question.how === "open" ? 0.5 : 1;
    pen.fillRect(left, y + 2, right - left, CLIENT - 5);
    pen.globalAlpha = 1;
    if (right - left > 60) {
      pen.fillStyle = colours.ink;
      pen.textAlign = "left";
      pen.font = "10px system-ui, 'DejaVu Sans', sans-serif";
      pen.save();
      pen.beginPath();
      pen.rect(left, y, right - left - 3, CLIENT);
      pen.clip();
      pen.fillText(`→${question.member} ${question.text}`, left + 4, y + CLIENT / 2);
      pen.restore();
    }
    spots.push([left, y + 1, right, y + CLIENT - 2, question]);
  }
  pen.font = "12px system-ui, 'DejaVu Sans', sans-serif";
}

function drawMarks(pen) {
  for (const mark of marks) {
    if (mark.at < view.from || mark.at > view.to || !isShown(mark)) continue;
    const x = xOf(mark.at), y = mark.member && laneOf.has(mark.member) ? laneOf.get(mark.member) - 3 : top - 3;
    pen.fillStyle = colours[mark.colour];
    if (mark.group === "fault") {
      pen.beginPath();
      pen.moveTo(x, y + 2); pen.lineTo(x - 6, y - 9); pen.lineTo(x + 6, y - 9);
      pen.fill();
      spots.push([x - 6, y - 10, x + 6, y + 2, mark]);
    } else if (mark.group === "life") {
      pen.fillRect(x - 1, y + 1, 2, BAR + 4);
      spots.push([x - 3, y, x + 3, y + BAR + 4, mark]);
    } else {
      pen.beginPath();
      pen.arc(x, y - 3, 3, 0, 7);
      pen.fill();
      spots.push([x - 4, y - 8, x + 4, y + 1, mark]);
    }
  }
}

function drawEnd(pen) {
  const x = xOf(end);
  pen.fillStyle = run.violation ? colours.bad : colours.quiet;
  pen.fillRect(x, AXIS, run.violation ? 2 : 1, height);
  if (run.violation) {
    pen.textAlign = "right";
    const label = ` ✗ ${run.violation.rule} `, wide = pen.measureText(label).width + 8;
    pen.fillRect(x - wide, AXIS, wide + 2, PHASE - 2);
    pen.fillStyle = colours.ink;
    pen.fillText(label, x - 4, AXIS + 8);
  }
}

function drawChosen(pen) {
  const marked = view.matches.slice(0, 2000).map((thing) => [thing, 1.5]);
  for (const thing of [view.pointed, view.chosen]) if (thing && !thing.passive) marked.push([thing, 3]);
  for (const [thing, wide] of marked) {
    if (thing.at > view.to || (thing.until ?? thing.at) < view.from) continue;
    if (thing.message && wide > 2) {
      drawMessage(pen, { ...thing, colour: "select" }, wide);
      spots.pop();
      continue;
    }
    pen.strokeStyle = colours.select;
    pen.lineWidth = wide;
    const x = Math.max(xOf(thing.at), GUTTER);
    pen.beginPath();
    if (thing.group === "question") {
      const right = Math.min(Math.max(xOf(thing.until), x + 4), width);
      pen.rect(x - 1, rowOf.get(thing.client) + 1, right - x + 2, CLIENT - 3);
    } else {
      pen.arc(x, thing.member && laneOf.has(thing.member) ? middle(thing.member) - (thing.message ? 0 : BAR) : top - 6, 7, 0, 7);
    }
    pen.stroke();
  }
  pen.lineWidth = 1;
}

function drawOverview() {
  const tall = 58, pen = sized(overview, tall), wide = overview.clientWidth - GUTTER - RIGHT;
  const x = (at) => GUTTER + (at / end) * wide;
  const most = Math.max(1, ...run.slices.map((slice) => slice[0])), asked = Math.max(1, ...run.slices.map((slice) => slice[1]));
  run.slices.forEach(([sent, questions, broken], place) => {
    const left = x(place * run.slice), step = Math.max(1, (run.slice / end) * wide);
    pen.fillStyle = colours.ack;
    pen.fillRect(left, 33 - 23 * Math.sqrt(sent / most), step, 23 * Math.sqrt(sent / most));
    pen.fillStyle = colours.ok;
    pen.fillRect(left, 55 - 11 * Math.sqrt(questions / asked), step, 11 * Math.sqrt(questions / asked));
    if (broken) {
      pen.fillStyle = colours.fault;
      pen.fillRect(left, 2, Math.max(2, step), 5);
    }
  });
  for (const id of members)
    for (const one of stretches.get(id))
      if (one.role === "Leader") {
        pen.fillStyle = colours.leader;
        pen.fillRect(x(one.from), 36, Math.max(1, x(one.to) - x(one.from)), 3);
      }
  pen.textAlign = "right";
  pen.fillStyle = colours.quiet;
  pen.font = "10px system-ui, 'DejaVu Sans', sans-serif";
  ["faults", "messages", "led", "asked"].forEach((word, place) => pen.fillText(word, GUTTER - 12, [6, 21, 37, 51][place]));
  if (run.violation) {
    pen.fillStyle = colours.bad;
    pen.fillRect(x(end) - 1, 0, 3, tall);
  }
  const left = Math.max(x(view.from), GUTTER), right = Math.max(Math.min(x(view.to), GUTTER + wide), left + 3);
  pen.fillStyle = colours.ground;
  pen.globalAlpha = 0.62;
  pen.fillRect(GUTTER, 0, left - GUTTER, tall);
  pen.fillRect(right, 0, GUTTER + wide - right, tall);
  pen.globalAlpha = 1;
  pen.strokeStyle = colours.accent;
  pen.lineWidth = 1.5;
  pen.strokeRect(left, 1, right - left, tall - 2);
}

// Uses a page as a person does: keys, wheel, pointer, clicks. `.ci/report` appends this to a page of a run that failed,
// opens it in a browser, and reads the verdict in the attribute `data-checked` of the body.
"use strict";
(async () => {
  const byId = (id) => document.getElementById(id);
  const stage = byId("stage"), overview = byId("overview");
  // Without a screen there are no frames.
  window.requestAnimationFrame = (go) => setTimeout(go, 1);
  const turn = () => new Promise((go) => setTimeout(go, 20));
  let checks = 0;
  const ensure = (holds, what) => {
    checks += 1;
    if (!holds) throw new Error(what);
  };
  const press = async (key, target = document.body, more = {}) => {
    target.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, ...more }));
    await turn();
  };
  const point = (kind, target, x, y) => {
    const box = target.getBoundingClientRect();
    const where = { clientX: box.left + x, clientY: box.top + y, pointerId: 1, bubbles: true, cancelable: true };
    target.dispatchEvent(new PointerEvent(kind, where));
  };
  // What is in view, in seconds: [from, to, all].
  const range = () => byId("range").textContent.match(/[\d.]+(?= s\b)/g).map(Number);
  const span = () => range()[1] - range()[0];
  const colours = () => {
    const pen = stage.getContext("2d"), seen = new Set();
    const { data } = pen.getImageData(0, 0, stage.width, stage.height);
    for (let place = 0; place < data.length; place += 4) seen.add((data[place] << 16) | (data[place + 1] << 8) | data[place + 2]);
    return seen;
  };
  // A pointer that is made up cannot be captured.
  stage.setPointerCapture = overview.setPointerCapture = () => {};
  try {
    await turn();
    ensure(byId("verdict").textContent.startsWith("FAILS: "), "the verdict is told");
    ensure(!byId("violation").hidden && byId("what").textContent.length > 10, "the violation is told");
    ensure(byId("story").textContent.includes("virtual time"), "the story is told");
    ensure(byId("facts").children.length > 10, "what the run is made of is told");
    ensure(colours().size > 20, "something is drawn");
    const [, to, all] = range();
    ensure(to >= all - 0.002, "it begins at the violation");
    ensure(document.querySelectorAll("#rows tr").length > 3, "what is seen is listed");

    await press("0");
    ensure(range()[0] === 0 && range()[1] >= all - 0.001, "0 shows everything");
    const wide = span();
    stage.dispatchEvent(new WheelEvent("wheel", { deltaY: -500, bubbles: true, cancelable: true }));
    await turn();
    ensure(span() < wide, "the wheel comes closer");
    await press("+");
    const close = span(), before = range()[0];
    ensure(close < wide, "+ comes closer");
    await press("ArrowRight");
    ensure(range()[0] > before, "→ goes on");
    await press("-");
    ensure(span() > close, "− goes farther");
    const start = range()[0];
    point("pointerdown", stage, 600, 100);
    point("pointermove", stage, 800, 100);
    point("pointerup", stage, 800, 100);
    await turn();
    ensure(range()[0] < start || start === 0, "dragging goes back");
    point("pointerdown", overview, 200, 30);
    point("pointermove", overview, 420, 30);
    point("pointerup", overview, 420, 30);
    await turn();
    const brushed = span();
    ensure(brushed > 0 && brushed < all / 2, "the overview chooses a part");
    byId("jump").click();
    await turn();
    ensure(range()[1] >= all - 0.002, "the button jumps to the violation");

    await press("/");
    ensure(document.activeElement === byId("search"), "/ searches");
    byId("search").value = "leader";
    byId("search").dispatchEvent(new Event("input"));
    await turn();
    ensure(parseInt(byId("found").textContent, 10) > 0, "matches are counted");
    await press("Enter", byId("search"));
    ensure(/leader/i.test(document.querySelector("tr.chosen").textContent), "⏎ goes to a match");
    ensure(byId("chosen").children.length >= 4, "details are told");
    await press("Escape", byId("search"));
    ensure(!document.querySelector("tr.chosen") && byId("found").textContent === "", "esc lets go");
    await press("n");
    ensure(document.querySelector("tr.chosen .kind").textContent.startsWith("fault"), "n goes to a fault");
    await press("]");
    ensure(document.querySelector("tr.chosen"), "] goes to the next line");

    await press("v");
    const chip = () => document.querySelector("#chips [data-group=append]");
    const listed = () => [...document.querySelectorAll("#rows .kind")].filter((one) => /^append \d/.test(one.textContent)).length;
    ensure(chip().getAttribute("aria-pressed") === "true", "entries are shown");
    await press("0");
    const some = listed();
    chip().click();
    await turn();
    ensure(some > 0 && listed() === 0 && chip().getAttribute("aria-pressed") === "false", "a chip hides");
    chip().click();
    await press("v");
    const { clientWidth, clientHeight } = stage;
    for (let x = clientWidth - 30; x > 100 && byId("tip").hidden; x -= 3)
      for (let y = 40; y < clientHeight && byId("tip").hidden; y += 3) point("pointermove", stage, x, y);
    ensure(!byId("tip").hidden && byId("tip").textContent.includes(" ms"), "what is pointed at is told");
    const theme = document.documentElement.dataset.theme, ground = getComputedStyle(document.body).backgroundColor;
    await press("t");
    ensure(document.documentElement.dataset.theme !== theme, "t changes the theme");
    ensure(getComputedStyle(document.body).backgroundColor !== ground, "and with it the colours");
    document.body.dataset.checked = `${checks} checks hold`;
  } catch (error) {
    document.body.dataset.checked = `FAILED: ${error.message}`;
  }
})();
window.addEventListener("error", (event) => { document.body.dataset.checked = `FAILED: ${event.message}`; });

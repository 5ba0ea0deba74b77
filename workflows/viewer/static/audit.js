// The page of an audit: one point after another, and one key for each answer.

import { readAudit, readPoint, saveAnswer } from "./api.js";
import { $, make } from "./dom.js";
import { Stage } from "./stage.js";

const OSD = window.OpenSeadragon;
const RING_UM = 10, GAP_UM = 2.5; // the ring is about as wide as a cell; its centre stays free

// Picture of a slide whose home is the point that is shown.
class PointStage extends Stage {
  whole(atOnce) {
    if (!this.slide) return;
    const { x_um: x, y_um: y } = this.slide, { x: w, y: h } = this.osd.viewport.getContainerSize();
    const around = [x - (w * mpp) / 2, y - (h * mpp) / 2, w * mpp, h * mpp];
    this.osd.viewport.fitBounds(new OSD.Rect(...around.map((um) => um / this.width)), atOnce);
  }

  ring() {
    const { x_um: x, y_um: y, level0: { mpp_x: mx, mpp_y: my } } = this.slide;
    const at = (dx, dy) => [(x + dx) / mx, (y + dy) / my];
    const circle = Array.from({ length: 48 }, (_, k) => {
      const angle = (k * Math.PI) / 24;
      return at(RING_UM * Math.cos(angle), RING_UM * Math.sin(angle));
    });
    const lines = [[1, 0], [-1, 0], [0, 1], [0, -1]].map(([dx, dy]) =>
      [at(dx * GAP_UM, dy * GAP_UM), at(dx * RING_UM, dy * RING_UM)]);
    const shapes = (kind) => [{ points: circle, kind },
      ...lines.map((points) => ({ points, kind, open: true }))];
    this.drawShapes([...shapes("halo"), ...shapes("ring")]);
  }
}

const look = { classes: new Set(), maskOn: false, outline: false, heat: "", opacity: 0 };
const stage = new PointStage(look, () => {});
const unseen = new Map(); // points that cannot be shown, and why
let mpp = 0.5, points = [], answers = {}, buttons = new Map(), shown = -1, busy = true;

function say(text, bad = false) {
  $("saved").textContent = text;
  $("saved").classList.toggle("bad", bad);
}

function showProgress() {
  const given = Object.keys(answers).length;
  const left = unseen.size ? `, ${unseen.size} cannot be shown` : "";
  $("progress").textContent = `${given} of ${points.length}${left}`;
}

const isOpen = (id) => !(id in answers) && !unseen.has(id);

// Place of the next point without an answer after a place, from the start again at the end; -1 if none.
function nextOpen(place) {
  for (let step = 1; step <= points.length; step++) {
    const k = (place + step) % points.length;
    if (isOpen(points[k])) return k;
  }
  return -1;
}

async function show(place) {
  shown = place;
  busy = true;
  stage.close();
  const id = points[place];
  for (const [name, button] of buttons) {
    button.disabled = !id;
    button.setAttribute("aria-pressed", String(Boolean(id) && answers[id] === name));
  }
  showProgress();
  if (!id) { finish(); return; }
  try {
    const point = await readPoint(id);
    if (shown !== place) return;
    if (point.notice) { pass(id, point.notice); return; }
    stage.open({ ...point, slide_id: id, origin_px: [0, 0] });
    stage.ring();
    busy = false;
    const after = points[nextOpen(place)];
    if (after && after !== id) readPoint(after).catch(() => {}); // opens its slide meanwhile
  } catch (error) {
    if (shown !== place) return;
    if (error.status === 404) pass(id, error.message);
    else { say(`This point cannot be loaded: ${error.message}. Load the page again.`, true); }
  }
}

// Pass over a point that cannot be shown, with its reason.
function pass(id, reason) {
  unseen.set(id, reason);
  $("notice").hidden = false;
  $("notice").textContent = `Passed over: ${reason}`;
  show(nextOpen(shown));
}

function finish() {
  const left = points.length - Object.keys(answers).length;
  $("notice").hidden = false;
  $("notice").textContent = left
    ? `All points that can be shown are answered. ${left} cannot: ${[...new Set(unseen.values())].join(" ")}`
    : "All points are answered. Thank you. Back shows the last one again.";
}

async function answer(name) {
  const id = points[shown];
  if (busy || !id) return;
  busy = true;
  say("");
  try {
    await saveAnswer(id, name);
  } catch (error) {
    busy = false;
    say(`Not saved: ${error.message}. Press the key again.`, true);
    return;
  }
  answers[id] = name;
  say(`${name}, saved`);
  show(nextOpen(shown));
}

// The point before the one shown; after the last one, the last that was shown.
function back() {
  for (let step = 1; step <= points.length; step++) {
    const from = shown < 0 ? points.length : shown;
    const k = (from - step + points.length) % points.length;
    if (!unseen.has(points[k])) { say(""); show(k); return; }
  }
}

function skip() {
  if (shown < 0) return;
  const next = nextOpen(shown);
  say(next === shown || next < 0 ? "No other point is left" : "");
  if (next >= 0 && next !== shown) show(next);
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const ACTIONS = {
  Backspace: back, s: skip, 0: () => stage.whole(false),
  "+": () => stage.zoom(1.5), "=": () => stage.zoom(1.5), "-": () => stage.zoom(1 / 1.5),
};

function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const named = [...buttons].find(([, button]) => button.dataset.key === event.key.toLowerCase());
  if (ARROWS[event.key]) stage.move(...ARROWS[event.key]);
  else if (named) answer(named[0]);
  else if (ACTIONS[event.key]) ACTIONS[event.key]();
  else return;
  event.preventDefault();
  event.stopPropagation();
}

function addButtons(place, choices) {
  for (const { name, key } of choices) {
    const button = make("button", { type: "button", "aria-pressed": "false", "data-key": key || "none" });
    if (key) {
      button.setAttribute("aria-keyshortcuts", key);
      button.append(make("kbd", { text: key }));
    }
    button.append(make("span", { text: name }));
    button.addEventListener("click", () => answer(name));
    buttons.set(name, button);
    $(place).append(button);
  }
}

function connect() {
  document.addEventListener("keydown", press, true);
  const click = (id, action) => $(id).addEventListener("click", action);
  click("back", back);
  click("skip", skip);
  click("home", ACTIONS[0]);
  click("zoom-in", ACTIONS["+"]);
  click("zoom-out", ACTIONS["-"]);
}

async function begin() {
  connect();
  try {
    const audit = await readAudit();
    ({ mpp, points, answers } = audit);
    $("reader").textContent = `Reader: ${audit.reader}`;
    $("reader").title = `Readers: ${audit.readers.join(", ")}`;
    addButtons("classes", audit.classes);
    addButtons("others", audit.others);
    show(nextOpen(-1));
  } catch (error) {
    say(`The audit cannot be read: ${error.message}`, true);
  }
}

begin();

// The viewer's page: it joins list, picture, panels and keys.

import { readFoci, readSlide, readSlides } from "./api.js";
import { $, area, make, words } from "./dom.js";
import { KEYS, listen } from "./keys.js";
import { SlideList } from "./list.js";
import { boxOf } from "./outlines.js";
import { showClasses, showConfined, showFigures, showLegend } from "./panel.js";
import { ReviewPanel } from "./review_panel.js";
import { Stage } from "./stage.js";

const READ_AGAIN_MS = 30000;

const look = { classes: new Set(), maskOn: true, outline: false, heat: "", opacity: 0.5, regions: true };
const hidden = new Set(); // names of the classes that the user has switched off
let me = "", results = "", slide = null, foci = null, focus = -1, shownId = null;

const stage = new Stage(look, (point) => review.corner(point));
const review = new ReviewPanel(stage, (one) => list.setReview(one.slideId, one.combined));
const list = new SlideList((slideId) => { location.hash = `slide=${encodeURIComponent(slideId)}`; });

function wantedId() {
  const found = /^#slide=(.*)$/.exec(location.hash);
  if (!found) return "";
  try { return decodeURIComponent(found[1]); } catch { return ""; }
}

async function readList() {
  const answer = await readSlides();
  ({ reviewer: me, results } = answer);
  $("title").textContent = results;
  $("reviewer").textContent = `Reviewer: ${me}`;
  list.set(answer.slides);
}

function problem(title, text) {
  $("problem").hidden = false;
  $("problem").querySelector("h3").textContent = title;
  $("problem").querySelector("p").textContent = text;
  $("picture").hidden = $("panel").hidden = true;
}

async function openSlide(slideId) {
  shownId = slideId;
  review.close();
  stage.close();
  slide = foci = null;
  focus = -1;
  $("problem").hidden = $("notice").hidden = true;
  showConfined(null);
  $("slide-name").textContent = slideId;
  document.title = `${slideId} - ${results} - Noctile`;
  list.select(slideId);
  const row = list.all.find((one) => one.slide_id === slideId);
  if (row && row.status !== "done" && row.tissue_area_mm2 === null) {
    problem(`${words(row.status)}: ${words(row.reason)}`, row.message);
    return;
  }
  try {
    const answer = await readSlide(slideId);
    if (shownId === slideId) showSlide(answer);
  } catch (error) {
    if (shownId === slideId) problem("This slide cannot be shown", error.message);
  }
}

function showSlide(answer) {
  slide = answer;
  $("picture").hidden = $("panel").hidden = false;
  $("notice").hidden = !slide.notice;
  $("notice").textContent = slide.notice;
  look.classes = new Set(slide.classes.filter((one) => !hidden.has(one.name)).map((one) => one.code));
  stage.open(slide);
  showClasses(slide.classes, look, classesChanged);
  showFigures(slide);
  showConfined(slide.confined, (one) => stage.show(boxOf(one.rings.flat())));
  showLegend(slide, look.heat);
  $("heat").disabled = !slide.heat;
  $("focus").textContent = "";
  review.open(slide, me, results);
}

function classesChanged() {
  for (const one of slide.classes) {
    if (look.classes.has(one.code)) hidden.delete(one.name);
    else hidden.add(one.name);
  }
  stage.update(true);
}

function toggleAll() {
  if (!slide) return;
  const all = look.classes.size === slide.classes.length;
  look.classes = new Set(all ? [] : slide.classes.map((one) => one.code));
  showClasses(slide.classes, look, classesChanged);
  classesChanged();
}

function toggleClass(place) {
  $("classes").querySelectorAll("input")[place - 1]?.click();
}

function setOpacity(percent) {
  $("opacity").value = Math.min(100, Math.max(0, percent));
  look.opacity = $("opacity").valueAsNumber / 100;
  stage.update(false);
}

function setHeat(name) {
  if (slide && !slide.heat) return;
  look.heat = $("heat").value = name;
  showLegend(slide, name);
  stage.update(false);
}

// Show a focus: the largest is 0; step counts from the last one shown.
async function goToFocus(step) {
  if (!slide) return;
  const of = slide;
  try {
    foci ??= await readFoci(of.slide_id);
  } catch (error) {
    $("focus").textContent = error.message;
    return;
  }
  if (slide !== of) return;
  if (!foci.length) {
    $("focus").textContent = "This slide has no tumor focus.";
    return;
  }
  focus = step ? (Math.max(focus, step > 0 ? -1 : 0) + step + foci.length) % foci.length : 0;
  const shown = foci[focus];
  stage.show(shown);
  review.mark(shown);
  $("focus").textContent = `Focus ${focus + 1} of ${foci.length}, ${area(shown.area_mm2)}`;
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const ACTIONS = {
  "next-slide": () => list.step(1),
  "previous-slide": () => list.step(-1),
  search: () => $("search").focus(),
  largest: () => goToFocus(0),
  "next-focus": () => goToFocus(1),
  "previous-focus": () => goToFocus(-1),
  "mask-on": () => $("mask-on").click(),
  outline: () => $("outline").click(),
  "all-classes": toggleAll,
  class: (key) => toggleClass(Number(key)),
  fainter: () => setOpacity($("opacity").valueAsNumber - 10),
  stronger: () => setOpacity($("opacity").valueAsNumber + 10),
  tumor: () => setHeat(look.heat === "tumor" ? "" : "tumor"),
  confidence: () => setHeat(look.heat === "confidence" ? "" : "confidence"),
  regions: () => $("regions-on").click(),
  "zoom-in": () => stage.zoom(1.5),
  "zoom-out": () => stage.zoom(1 / 1.5),
  whole: () => stage.whole(false),
  move: (key) => stage.move(...ARROWS[key]),
  accepted: () => review.setStatus("accepted"),
  rejected: () => review.setStatus("rejected"),
  look_again: () => review.setStatus("look_again"),
  note: () => $("note").focus(),
  draw: () => review.draw(!stage.drawing),
  corner: () => stage.drawing && review.corner(stage.middle()),
  back: () => stage.drawing && review.back(),
  finish: () => stage.drawing && review.finish(),
  drop: drop,
  help: () => $("help").showModal(),
};

function drop() {
  if ($("help").open) $("help").close();
  else if (stage.drawing) review.draw(false);
  else document.activeElement?.blur();
}

function act(action, key) {
  if ($("help").open && action !== "drop") return false;
  ACTIONS[action](key);
  return true;
}

function connect() {
  const click = (id, action) => $(id).addEventListener("click", () => ACTIONS[action]());
  for (const id of ["next-slide", "previous-slide", "largest", "next-focus", "previous-focus"]) click(id, id);
  for (const id of ["all-classes", "zoom-in", "zoom-out", "whole"]) click(id, id);
  click("help-button", "help");
  $("help-close").addEventListener("click", () => $("help").close());
  $("mask-on").addEventListener("change", () => { look.maskOn = $("mask-on").checked; stage.update(false); });
  $("outline").addEventListener("change", () => { look.outline = $("outline").checked; stage.update(true); });
  $("regions-on").addEventListener("change", () => { look.regions = $("regions-on").checked; stage.update(false); });
  $("opacity").addEventListener("input", () => setOpacity($("opacity").valueAsNumber));
  $("heat").addEventListener("change", () => setHeat($("heat").value));
  const rows = KEYS.map(([key, , text]) => make(
    "tr", {}, make("th", { scope: "row" }, make("kbd", { text: key })), make("td", { text }),
  ));
  $("keys").append(...rows);
  listen(act);
  window.addEventListener("hashchange", () => openWanted());
}

function openWanted() {
  const slideId = wantedId() || list.rows[0]?.slide_id || "";
  if (slideId && slideId !== shownId) openSlide(slideId);
}

async function begin() {
  connect();
  try {
    await readList();
    openWanted();
  } catch (error) {
    problem("The list of slides cannot be read", error.message);
  }
  setInterval(() => readList().catch(() => {}), READ_AGAIN_MS);
}

begin();

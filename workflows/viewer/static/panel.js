// Classes, legend, flags and figures of a slide.

import { $, area, make, number, rgb, words } from "./dom.js";

function classRow(one, place, look, changed) {
  const box = make("input", { type: "checkbox", "data-code": one.code });
  box.checked = look.classes.has(one.code);
  box.addEventListener("change", () => {
    if (box.checked) look.classes.add(one.code);
    else look.classes.delete(one.code);
    changed();
  });
  const swatch = make("span", { class: "swatch" });
  swatch.style.background = rgb(one.color);
  const key = place <= 9 ? ` (${place})` : "";
  const name = make("span", { text: `${words(one.name)}${key}` });
  const size = make("span", { class: "area", text: area(one.area_mm2) });
  return make("li", {}, make("label", {}, box, swatch, name, size));
}

// classes: the slide's; codes of those shown are in look.classes.
export function showClasses(classes, look, changed) {
  $("classes").replaceChildren(...classes.map((one, k) => classRow(one, k + 1, look, changed)));
}

// Draw the colours of the heat map that is shown.
export function showLegend(slide, heat) {
  const colors = slide?.heat_colors?.[heat];
  $("legend").hidden = !colors || !slide.heat;
  if (!colors) return;
  const context = $("ramp").getContext("2d");
  const { width, height } = $("ramp");
  const gradient = context.createLinearGradient(0, 0, width, 0);
  colors.forEach((color, k) => gradient.addColorStop(k / (colors.length - 1), rgb(color)));
  context.fillStyle = gradient;
  context.fillRect(0, 0, width, height);
}

// Say to what the slide was confined, and list its regions; show(outline) moves the picture there.
export function showConfined(confined, show) {
  $("confined").hidden = !confined;
  $("confined-here").textContent = confined ? `confined to ${confined.text}` : "";
  if (!confined) return;
  $("confined-to").textContent = `All areas and figures are confined to ${confined.text}.`;
  const rows = confined.outlines.filter((one) => one.kind === "region").map((one) => {
    const areas = `tumor ${area(one.tumor_area_mm2)}, tissue ${area(one.tissue_area_mm2)}`;
    const button = make("button", { type: "button", text: "Show" });
    button.addEventListener("click", () => show(one));
    return make("li", { class: "row" }, make("b", { text: one.name }), make("span", { text: areas }), button);
  });
  $("confined-list").replaceChildren(...rows);
}

function flagRow(flag) {
  return make("li", {}, make("b", { text: words(flag.name) }), make("div", { class: "soft", text: flag.meaning }));
}

export function showFigures(slide) {
  const none = make("li", { class: "soft", text: "none" });
  $("flags").replaceChildren(...(slide.qc_flags.length ? slide.qc_flags.map(flagRow) : [none]));
  const rows = Object.entries(slide.figures).map(([name, value]) => {
    const unit = slide.units[name] ? ` ${slide.units[name]}` : "";
    const shown = value === null || value === undefined ? "–" : `${number(value)}${unit}`;
    return make("tr", {}, make("th", { scope: "row", text: words(name) }), make("td", { class: "n", text: shown }));
  });
  $("figures").tBodies[0].replaceChildren(...rows);
}

// Review in the page: buttons, note, regions that are drawn, and messages about saving.

import { $, make, words } from "./dom.js";
import { boxOf } from "./outlines.js";
import { SlideReview, reasonOf, regionFeature, reviewerOf, rings } from "./review.js";

export const REASONS = ["pen", "fold", "wrong_block", "other"];

export class ReviewPanel {
  constructor(stage, reviewed) {
    this.stage = stage;
    this.reviewed = reviewed;
    this.review = null;
    this.earlier = new Map(); // reviews of the slides that were open before
    this.points = [];
    this.chosen = null;
    this.focus = null;
    $("reason").append(...REASONS.map((value) => make("option", { value, text: words(value) })));
    for (const button of $("statuses").children) {
      button.addEventListener("click", () => this.setStatus(button.dataset.status));
    }
    $("note").addEventListener("input", () => this.review?.setNote($("note").value));
    $("note").addEventListener("blur", () => this.review?.save());
    $("keep-mine").addEventListener("click", () => this.review.solve(true));
    $("use-newer").addEventListener("click", () => this.review.solve(false));
    $("retry").addEventListener("click", () => this.review.save());
    $("draw").addEventListener("click", () => this.draw(!stage.drawing));
    $("finish").addEventListener("click", () => this.finish());
  }

  open(slide, me, results) {
    this.close();
    $("review-missing").hidden = Boolean(slide.review);
    $("review-form").hidden = !slide.review;
    if (!slide.review) return;
    const changed = (review) => {
      this.reviewed(review);
      if (review === this.review) this.show();
    };
    const slideId = slide.slide_id, earlier = this.earlier.get(slideId);
    this.review = earlier?.unsaved // it goes on trying to save
      ? earlier : new SlideReview({ slideId, me, results }, slide.review, localStorage, changed);
    this.earlier.set(slideId, this.review);
    this.show();
  }

  // Leave a slide; what has changed is saved.
  close() {
    this.draw(false);
    this.review?.save();
    this.review = this.chosen = this.focus = null;
    $("review-form").hidden = true;
  }

  setStatus(status) {
    this.review?.setStatus(status);
  }

  show() {
    const review = this.review;
    for (const button of $("statuses").children) {
      button.setAttribute("aria-pressed", String(button.dataset.status === review.status));
    }
    if ($("note").value !== review.note) $("note").value = review.note;
    $("saved").textContent = review.message;
    $("saved").classList.toggle("bad", ["failed", "conflict"].includes(review.state));
    $("retry").hidden = review.state !== "failed";
    $("conflict").hidden = !review.newer;
    if (review.newer) $("conflict").querySelector("p").textContent = review.newerWords;
    this.showRegions();
    $("others").replaceChildren(...review.others.map((row) => this.otherRow(row)));
    if (!review.others.length) $("others").append(make("li", { class: "soft", text: "none" }));
  }

  otherRow(row) {
    const status = row.status ? words(row.status) : "no status";
    const note = row.note ? `: ${row.note}` : "";
    return make("li", { text: `${row.reviewer}, ${status}${note}`, title: row.time });
  }

  showRegions() {
    const own = this.review.features.map((feature) => this.regionRow(feature, true));
    const others = this.review.otherFeatures.map((feature) => this.regionRow(feature, false));
    $("region-list").replaceChildren(...own, ...others);
    this.redraw();
  }

  regionRow(feature, isOwn) {
    const by = isOwn ? "" : `, by ${reviewerOf(feature) || "a file"}`;
    const row = make("li", { class: "row" }, make("span", { text: `${words(reasonOf(feature))}${by}` }));
    const show = make("button", { type: "button", text: "Show" });
    show.addEventListener("click", () => this.choose(feature));
    row.append(show);
    if (isOwn) {
      const button = make("button", { type: "button", text: "Delete" });
      button.addEventListener("click", () => this.review.remove(feature));
      row.append(button);
    }
    return row;
  }

  choose(feature) {
    const points = rings(feature).flat();
    if (!points.length) return;
    this.chosen = feature;
    this.redraw();
    this.stage.show(boxOf(points));
  }

  // Mark a focus on the picture.
  mark(box) {
    this.focus = box;
    this.redraw();
  }

  redraw() {
    const shapes = [];
    const add = (features, kind) => {
      for (const feature of features) {
        const chosen = feature === this.chosen ? " chosen" : "";
        for (const points of rings(feature)) shapes.push({ points, kind: kind + chosen });
      }
    };
    if (this.review) {
      add(this.review.features, "own");
      add(this.review.otherFeatures, "other");
    }
    if (this.focus) {
      const { x, y, width: w, height: h } = this.focus;
      shapes.push({ points: [[x, y], [x + w, y], [x + w, y + h], [x, y + h]], kind: "focus" });
    }
    if (this.points.length) {
      shapes.push({ points: this.points, kind: "drawn", open: this.points.length < 3 });
    }
    this.stage.drawShapes(shapes);
  }

  draw(on) {
    if (on && !this.review) return;
    this.stage.drawing = on;
    this.points = [];
    $("draw").setAttribute("aria-pressed", String(on));
    for (const id of ["finish", "draw-help", "cross"]) $(id).hidden = !on;
    if (this.stage.slide) this.redraw();
  }

  corner(point) {
    this.points = [...this.points, point];
    this.redraw();
  }

  back() {
    this.points = this.points.slice(0, -1);
    this.redraw();
  }

  finish() {
    if (!this.stage.drawing) return;
    if (this.points.length < 3) {
      this.review.say("", "A region has at least three corners.");
      return;
    }
    const feature = regionFeature(this.points, $("reason").value);
    this.draw(false);
    this.review.add(feature);
  }
}

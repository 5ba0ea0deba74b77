// List of slides. Only the rows in sight are in the page, so that thousands of them are fast.

import { $, area, make, words } from "./dom.js";

const ROW_PX = 46;
const SPARE_ROWS = 8;

const SORTS = {
  name: ["name", (a, b) => a.slide_id.localeCompare(b.slide_id, "en", { numeric: true })],
  tumor: ["most tumor", (a, b) => (b.tumor_area_mm2 ?? -1) - (a.tumor_area_mm2 ?? -1)],
  confidence: ["lowest confidence", (a, b) => (a.mean_confidence ?? 2) - (b.mean_confidence ?? 2)],
  flags: ["most flags", (a, b) => b.qc_flags.length - a.qc_flags.length],
  status: ["failed first", (a, b) => (a.status === "done") - (b.status === "done")],
};

function options(select, choices) {
  const chosen = select.value;
  select.replaceChildren(...choices.map(([value, text]) => make("option", { value, text })));
  select.value = choices.some(([value]) => value === chosen) ? chosen : choices[0][0];
}

const reviewWords = (row) => (row.review_status ? words(row.review_status) : "not reviewed");

function searched(row) {
  const texts = [row.slide_id, row.patient_id, row.group, row.reason, row.message];
  return texts.join("\n").toLowerCase();
}

export class SlideList {
  constructor(choose) {
    this.choose = choose;
    this.all = [];
    this.rows = [];
    this.current = "";
    this.holder = make("div", { role: "presentation" });
    $("list").append(this.holder);
    options($("sort"), Object.entries(SORTS).map(([value, [text]]) => [value, text]));
    $("list").addEventListener("scroll", () => this.draw());
    new ResizeObserver(() => this.draw()).observe($("list"));
    $("list").addEventListener("click", (event) => {
      const row = event.target.closest(".slide");
      if (row) this.choose(this.rows[Number(row.dataset.index)].slide_id);
    });
    $("list").addEventListener("keydown", (event) => this.key(event));
    $("search").addEventListener("input", () => this.find());
    for (const id of ["filter-status", "filter-flag", "filter-review", "sort"]) {
      $(id).addEventListener("change", () => this.find());
    }
  }

  set(rows) {
    this.all = rows;
    const found = (values) => [...new Set(values)].sort().map((name) => [name, words(name)]);
    options($("filter-status"), [["", "all"], ...found(rows.map((row) => row.status))]);
    options($("filter-flag"), [["", "all"], ["any", "any flag"], ...found(rows.flatMap((row) => row.qc_flags))]);
    const reviews = found(rows.map((row) => row.review_status).filter(Boolean));
    options($("filter-review"), [["", "all"], ["none", "not reviewed"], ...reviews]);
    this.find();
  }

  setReview(slideId, status) {
    const row = this.all.find((one) => one.slide_id === slideId);
    if (!row || row.review_status === status) return;
    row.review_status = status;
    this.draw();
  }

  find() {
    const text = $("search").value.trim().toLowerCase();
    const status = $("filter-status").value;
    const flag = $("filter-flag").value;
    const review = $("filter-review").value;
    this.rows = this.all.filter((row) => (
      (!status || row.status === status)
      && (!flag || (flag === "any" ? row.qc_flags.length > 0 : row.qc_flags.includes(flag)))
      && (!review || (row.review_status || "none") === review)
      && (!text || searched(row).includes(text))
    ));
    this.rows.sort(SORTS[$("sort").value][1]);
    this.holder.style.height = `${this.rows.length * ROW_PX}px`;
    $("count").textContent = `${this.rows.length} of ${this.all.length} slides`;
    this.draw();
  }

  index() {
    return this.rows.findIndex((row) => row.slide_id === this.current);
  }

  select(slideId) {
    this.current = slideId;
    const top = this.index() * ROW_PX, box = $("list");
    if (top >= 0 && (top < box.scrollTop || top + ROW_PX > box.scrollTop + box.clientHeight)) {
      box.scrollTop = top - box.clientHeight / 2;
    }
    this.draw();
  }

  // Choose the slide that stands some rows below the current one.
  step(rows) {
    const row = this.rows[Math.min(Math.max(this.index() + rows, 0), this.rows.length - 1)];
    if (row && row.slide_id !== this.current) this.choose(row.slide_id);
  }

  key(event) {
    const page = Math.max(1, Math.floor($("list").clientHeight / ROW_PX) - 1);
    const all = this.rows.length;
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -all, End: all };
    if (!(event.key in steps)) return;
    event.preventDefault();
    this.step(steps[event.key]);
  }

  draw() {
    const box = $("list");
    const first = Math.max(0, Math.floor(box.scrollTop / ROW_PX) - SPARE_ROWS);
    const end = first + Math.ceil(box.clientHeight / ROW_PX) + 2 * SPARE_ROWS;
    const shown = this.rows.slice(first, end);
    this.holder.replaceChildren(...shown.map((row, k) => this.row(row, first + k)));
    const chosen = this.holder.querySelector("[aria-selected=true]");
    if (chosen) box.setAttribute("aria-activedescendant", chosen.id);
    else box.removeAttribute("aria-activedescendant");
  }

  row(row, index) {
    const done = row.status === "done";
    const figures = done ? `tumor ${area(row.tumor_area_mm2)}` : `${row.status}: ${words(row.reason)}`;
    const flags = row.qc_flags.length ? `, ${row.qc_flags.length} flags` : "";
    const element = make(
      "div",
      {
        class: done ? "slide" : "slide failed", role: "option", id: `slide-${index}`,
        "aria-selected": String(row.slide_id === this.current), "data-index": index,
        "aria-posinset": index + 1, "aria-setsize": this.rows.length,
      },
      make("b", { text: row.slide_id, title: row.slide_id }),
      make("span", { text: `${figures}${flags}; ${reviewWords(row)}` }),
    );
    element.style.top = `${index * ROW_PX}px`;
    return element;
  }
}

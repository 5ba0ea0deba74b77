// Review of one slide: what the reviewer has changed, and saving it. It knows no elements.

import { save } from "./api.js";

const PAUSE_MS = 900;
const RETRY_MS = 4000;

const reviewerOf = (feature) => feature?.properties?.metadata?.reviewer || "";

export class SlideReview {
  // about: {slideId, me, results}. store: like localStorage. changed: called after each change.
  constructor(about, document, store, changed) {
    Object.assign(this, about, { store, changed });
    this.status = "";
    this.note = "";
    this.features = [];
    this.dirty = { review: false, regions: false };
    this.state = "";
    this.message = "";
    this.newer = null;
    this.busy = false;
    this.edits = { review: 0, regions: 0 };
    this.take(document);
    this.restore();
  }

  get own() {
    return this.rows.find((row) => row.reviewer === this.me);
  }

  get others() {
    return this.rows.filter((row) => row.reviewer !== this.me);
  }

  get unsaved() {
    return this.dirty.review || this.dirty.regions;
  }

  // Status of all reviewers, as the table has it.
  get combined() {
    const all = new Set(this.rows.map((row) => row.status).filter(Boolean));
    return all.size > 1 ? "disagreement" : [...all][0] || "";
  }

  // Take what the server has; changes that are not saved stay.
  take(document) {
    this.version = document.version;
    this.rows = document.reviews;
    const features = document.regions.features || [];
    this.otherFeatures = features.filter((feature) => reviewerOf(feature) !== this.me);
    if (!this.dirty.review) {
      this.status = this.own?.status || "";
      this.note = this.own?.note || "";
    }
    if (!this.dirty.regions) {
      this.features = features.filter((feature) => reviewerOf(feature) === this.me);
    }
  }

  // Take the changes of an earlier visit that were not saved, with the version they began from.
  restore() {
    let draft = null;
    try { draft = JSON.parse(this.store.getItem(this.key)); } catch { return; }
    if (!draft || typeof draft.note !== "string" || !Array.isArray(draft.features)) return;
    this.version = draft.version;
    this.dirty = { review: Boolean(draft.dirty.review), regions: Boolean(draft.dirty.regions) };
    if (this.dirty.review) [this.status, this.note] = [draft.status, draft.note];
    if (this.dirty.regions) this.features = draft.features;
    this.save();
  }

  get key() {
    return `noctile-review/${JSON.stringify([this.results, this.me, this.slideId])}`;
  }

  keep() {
    const { version, status, note, features, dirty } = this;
    try {
      if (this.unsaved) {
        this.store.setItem(this.key, JSON.stringify({ version, status, note, features, dirty }));
      } else {
        this.store.removeItem(this.key);
      }
    } catch { /* a browser without storage saves all the same */ }
  }

  setStatus(status) {
    this.status = this.status === status ? "" : status;
    this.edit("review", 0);
  }

  setNote(note) {
    if (note === this.note) return;
    this.note = note;
    this.edit("review", PAUSE_MS);
  }

  add(feature) {
    this.features = [...this.features, feature];
    this.edit("regions", 0);
  }

  remove(feature) {
    this.features = this.features.filter((one) => one !== feature);
    this.edit("regions", 0);
  }

  edit(part, pause) {
    this.dirty[part] = true;
    this.edits[part] += 1;
    this.keep();
    if (!this.newer) this.say("waiting", "not saved yet");
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.save(), pause);
  }

  say(state, message) {
    this.state = state;
    this.message = message;
    this.changed(this);
  }

  // Save what has changed, one part after the other.
  async save() {
    clearTimeout(this.timer);
    if (this.busy || this.newer) return;
    const part = ["review", "regions"].find((name) => this.dirty[name]);
    if (!part) return;
    this.busy = true;
    this.say("waiting", "saving");
    const edits = this.edits[part];
    try {
      const document = await save(this.slideId, part, this.body(part));
      this.busy = false;
      if (document.conflict) this.conflict(document);
      else this.saved(part, edits, document);
    } catch (error) {
      this.busy = false;
      this.say("failed", `Not saved: ${error.message}. The page tries again.`);
      this.timer = setTimeout(() => this.save(), RETRY_MS);
    }
  }

  body(part) {
    const { version, status, note, features } = this;
    return part === "review" ? { status, note, version } : { features, version };
  }

  saved(part, edits, document) {
    this.dirty[part] = this.edits[part] !== edits;
    this.take(document);
    this.keep();
    if (this.unsaved) {
      this.save();
    } else {
      this.say("saved", `saved at ${new Date().toLocaleTimeString("en-GB")}`);
    }
  }

  conflict(document) {
    this.newer = document;
    this.say("conflict", "Not saved: your review was changed in another window.");
  }

  // Solve a conflict: keep the own changes, or drop them.
  solve(keepMine) {
    const document = this.newer;
    this.newer = null;
    if (!keepMine) this.dirty = { review: false, regions: false };
    this.take(document);
    this.keep();
    if (keepMine) this.save();
    else this.say("saved", "the newer review is shown");
  }

  // Newer state of the conflict, in words.
  get newerWords() {
    const row = this.newer.reviews.find((one) => one.reviewer === this.me);
    const count = (this.newer.regions.features || []).filter((f) => reviewerOf(f) === this.me).length;
    const status = (row?.status || "no status").replaceAll("_", " ");
    return `The newer review: ${status}; note: ${row?.note || "none"}; ${count} regions.`;
  }
}

// GeoJSON feature of a region; points in level-0 px.
export function regionFeature(points, reason) {
  const ring = [...points, points[0]].map(([x, y]) => [Math.round(x), Math.round(y)]);
  const properties = { objectType: "annotation", classification: { name: reason } };
  const geometry = { type: "Polygon", coordinates: [ring] };
  return { type: "Feature", id: crypto.randomUUID(), geometry, properties };
}

// Rings of a feature's polygons.
export function rings(feature) {
  const { type, coordinates } = feature.geometry || {};
  if (type === "Polygon") return coordinates;
  return type === "MultiPolygon" ? coordinates.flat() : [];
}

export const reasonOf = (feature) => feature.properties?.classification?.name || "other";
export { reviewerOf };

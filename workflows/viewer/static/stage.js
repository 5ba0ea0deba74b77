// The picture: layers placed by physical size, scale bar, coordinates and regions.
// World units of OpenSeadragon: 1 is the width of the slide.

import { tileUrl } from "./api.js";
import { $, length, number, roundLength } from "./dom.js";
import { Outlines } from "./outlines.js";

const OSD = window.OpenSeadragon;
const SVG = "http://www.w3.org/2000/svg";
const BAR_PX = 160;
const LAYERS = ["slide", "mask", "tumor", "confidence"];

// OpenSeadragon adds a style to the page unless one has this mark; the page allows no such style.
const mark = document.createElementNS("urn:noctile", "style");
mark.setAttribute("data-openseadragon-mobile-css", "");
document.head.append(mark);

// Tiles of a layer. Level d of the server is level (levels - 1 - d) here. The height is scaled where
// pixels are not square. Tiles at the edges keep the size that their pixels have.
function tileSource(slide, name, layer, query) {
  const { width, height, tile_px: side, levels } = layer;
  const ratio = layer.mpp_y / layer.mpp_x || 1;
  const source = new OSD.TileSource({ width, height, tileSize: side, maxLevel: levels - 1 });
  const shrink = (level) => 2 ** (levels - 1 - level);
  const sizes = (level) => [width, height].map((px) => Math.ceil(px / shrink(level)));
  source.dimensions = new OSD.Point(width, height * ratio);
  source.aspectRatio = width / (height * ratio);
  source.getNumTiles = (level) => {
    const [columns, rows] = sizes(level).map((px) => Math.ceil(px / side));
    return new OSD.Point(columns, rows);
  };
  source.getTileAtPoint = (level, point) => {
    const tiles = source.getNumTiles(level);
    const world = (width / shrink(level)) / side;
    const column = Math.floor(point.x * world), row = Math.floor((point.y * world) / ratio);
    const inside = (value, count) => Math.min(Math.max(value, 0), count - 1);
    return new OSD.Point(inside(column, tiles.x), inside(row, tiles.y));
  };
  source.getTileBounds = (level, x, y, isSource) => {
    const [columns, rows] = sizes(level);
    const w = Math.min(side, columns - x * side), h = Math.min(side, rows - y * side);
    if (isSource) return new OSD.Rect(0, 0, w, h);
    const unit = shrink(level) / width, tall = unit * ratio;
    return new OSD.Rect(x * side * unit, y * side * tall, w * unit, h * tall);
  };
  source.getTileUrl = (level, x, y) => tileUrl(slide, name, levels - 1 - level, x, y, query);
  source.hasTransparency = () => name !== "slide";
  return source;
}

export class Stage {
  // look: what is shown: {classes: Set of codes, maskOn, outline, heat, opacity, regions}.
  constructor(look, clicked) {
    this.look = look;
    this.slide = null;
    this.items = {};
    this.drawing = false;
    this.shapes = [];
    this.outlines = new Outlines();
    this.osd = OSD({
      element: $("osd"), drawer: "canvas", showNavigationControl: false, animationTime: 0.4,
      gestureSettingsMouse: { clickToZoom: false }, gestureSettingsTouch: { dblClickToZoom: true },
      maxZoomPixelRatio: 16, visibilityRatio: 0.2, imageLoaderLimit: 6, timeout: 120000,
    });
    const canvas = this.osd.canvas;
    canvas.setAttribute("role", "application");
    canvas.setAttribute("aria-label", "Slide; arrows move it, + and - zoom");
    this.osd.addHandler("canvas-key", (event) => { event.preventDefaultAction = true; });
    this.osd.addHandler("update-viewport", () => this.refresh());
    this.osd.addHandler("resize", () => this.refresh());
    this.osd.addHandler("tile-load-failed", ({ tiledImage }) => {
      if (Object.values(this.items).includes(tiledImage)) this.warn();
    });
    this.osd.addHandler("canvas-click", (event) => {
      if (!this.drawing || !event.quick) return;
      event.preventDefaultAction = true;
      clicked(this.pixelAt(event.position));
    });
    $("picture").addEventListener("pointermove", (event) => this.point(event));
    $("picture").addEventListener("pointerleave", () => { $("coordinates").textContent = ""; });
  }

  open(slide) {
    this.close();
    this.slide = slide;
    this.width = slide.slide.width * slide.slide.mpp_x;
    for (const name of LAYERS) this.add(name);
    this.outlines.draw(slide.confined?.outlines || []);
  }

  // Add a layer; it takes the place of the one of this name.
  add(name) {
    const slide = this.slide;
    const layer = { slide: slide.slide, mask: slide.mask }[name] || slide.heat;
    if (!layer) return;
    const query = name === "mask" ? this.maskQuery() : {};
    this.osd.addTiledImage({
      tileSource: tileSource(slide, name, layer, query),
      x: 0, y: 0, width: (layer.width * layer.mpp_x) / this.width, opacity: this.opacity(name),
      index: LAYERS.indexOf(name),
      success: ({ item }) => {
        if (this.slide !== slide) { this.osd.world.removeItem(item); return; }
        const old = this.items[name];
        this.items[name] = item;
        if (old) this.osd.world.removeItem(old);
        item.setOpacity(this.opacity(name));
        if (name === "slide") this.whole(true);
        this.osd.forceRedraw();
      },
    });
  }

  // Tiles are gone when the slide has been run again, or when the viewer has ended.
  warn() {
    $("notice").textContent = "A part of the picture cannot be loaded. Load this page again: the slide"
      + " may have been run again. If that does not help, start noctile view again.";
    $("notice").hidden = false;
  }

  close() {
    this.slide = null;
    this.items = {};
    this.osd.world.removeAll();
    this.drawShapes([]);
    this.outlines.draw([]);
    $("scale").hidden = true;
    $("coordinates").textContent = "";
  }

  maskQuery() {
    const show = [...this.look.classes].sort((a, b) => a - b).join(",");
    return { show, style: this.look.outline ? "outline" : "fill" };
  }

  opacity(name) {
    const { maskOn, heat, opacity, classes, outline } = this.look;
    if (name === "slide") return 1;
    if (name === "mask" && !(maskOn && classes.size)) return 0;
    if (name === "mask") return outline ? Math.min(1, 2 * opacity) : opacity; // thin lines are faint
    return heat === name ? opacity : 0;
  }

  // Show the layers as look says. If classes or style have changed, the mask has other tiles.
  update(maskChanged) {
    for (const [name, item] of Object.entries(this.items)) item.setOpacity(this.opacity(name));
    $("outlines").toggleAttribute("hidden", !this.look.regions);
    if (maskChanged && this.slide) this.add("mask");
    this.osd.forceRedraw();
  }

  whole(atOnce) {
    if (!this.slide) return;
    const { width, height, mpp_x: x, mpp_y: y } = this.slide.slide;
    this.osd.viewport.fitBounds(new OSD.Rect(0, 0, 1, (height * y) / (width * x)), atOnce);
  }

  zoom(factor) {
    this.osd.viewport.zoomBy(factor);
    this.osd.viewport.applyConstraints();
  }

  move(x, y) {
    const size = this.osd.viewport.getBounds();
    this.osd.viewport.panBy(new OSD.Point((x * size.width) / 5, (y * size.height) / 5));
    this.osd.viewport.applyConstraints();
  }

  // Show a box (level-0 px) with some space around it.
  show(box) {
    const { mpp_x: mx, mpp_y: my } = this.slide.level0;
    const [x, y, w, h] = [box.x * mx, box.y * my, box.width * mx, box.height * my];
    const space = Math.max(w, h, 100) * 0.5;
    const all = [x - space, y - space, w + 2 * space, h + 2 * space].map((um) => um / this.width);
    this.osd.viewport.fitBounds(new OSD.Rect(...all));
  }

  // Position in px of level 0, from the corner of the picture, of a point of the element.
  pixelAt(position) {
    const world = this.osd.viewport.viewerElementToViewportCoordinates(position);
    const { mpp_x: x, mpp_y: y } = this.slide.level0;
    return [(world.x * this.width) / x, (world.y * this.width) / y];
  }

  middle() {
    const size = this.osd.viewport.getContainerSize();
    return this.pixelAt(new OSD.Point(size.x / 2, size.y / 2));
  }

  point(event) {
    if (!this.slide) return;
    const corner = $("osd").getBoundingClientRect();
    const at = new OSD.Point(event.clientX - corner.left, event.clientY - corner.top);
    const [x, y] = this.pixelAt(at);
    const { mpp_x: mx, mpp_y: my } = this.slide.level0;
    const [originY, originX] = this.slide.origin_px;
    const um = `x ${(x * mx).toFixed(1)} µm, y ${(y * my).toFixed(1)} µm`;
    const px = `${Math.floor(x + originX)}, ${Math.floor(y + originY)} px`;
    $("coordinates").textContent = `${um} (level 0: ${px})`;
  }

  // Shapes: {points: [[x, y], ...] in level-0 px, kind, open}.
  drawShapes(shapes) {
    this.shapes = shapes;
    const made = shapes.map(({ points, kind, open }) => {
      const shape = document.createElementNS(SVG, open ? "polyline" : "polygon");
      shape.setAttribute("points", points.map((point) => point.join(",")).join(" "));
      shape.setAttribute("class", kind);
      return shape;
    });
    $("shapes").replaceChildren(...made);
    this.refresh();
  }

  refresh() {
    if (!this.slide) return;
    const viewport = this.osd.viewport;
    const perUm = viewport.deltaPixelsFromPoints(new OSD.Point(1, 0), true).x / this.width;
    const zero = viewport.pixelFromPoint(new OSD.Point(0, 0), true);
    const { mpp_x: x, mpp_y: y } = this.slide.level0;
    const matrix = [perUm * x, 0, 0, perUm * y, zero.x, zero.y];
    $("shapes").setAttribute("transform", `matrix(${matrix.join(" ")})`);
    this.outlines.place(matrix);
    if (!(perUm > 0)) return;
    const um = roundLength(BAR_PX / perUm);
    $("scale").hidden = false;
    $("scale-bar").style.width = `${um * perUm}px`;
    $("scale-text").textContent = length(um);
    $("scale").setAttribute("data-um", number(um).replaceAll(",", ""));
  }
}

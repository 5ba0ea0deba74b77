// Outlines of regions of interest on the picture, with their names.

import { $ } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const NAMED_PX = 30; // an outline that is smaller on the screen has no name
const NAME_CHARS = 40; // a longer name is cut; the panel has all of it

// Smallest box around points [x, y].
export function boxOf(points) {
  const box = [Infinity, Infinity, -Infinity, -Infinity];
  for (const [x, y] of points) {
    box[0] = Math.min(box[0], x);
    box[1] = Math.min(box[1], y);
    box[2] = Math.max(box[2], x);
    box[3] = Math.max(box[3], y);
  }
  return { x: box[0], y: box[1], width: box[2] - box[0], height: box[3] - box[1] };
}

function element(tag, values) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(values)) made.setAttribute(name, value);
  return made;
}

// Path of closed rings [[[x, y], ...], ...].
const pathOf = (rings) => rings.map((ring) => `M${ring.map((point) => point.join(" ")).join("L")}Z`).join("");

// The name of an outline stands above the middle of its largest ring.
function nameOf({ name, rings }) {
  const text = element("text", {});
  const chars = [...name];
  text.textContent = chars.length > NAME_CHARS ? `${chars.slice(0, NAME_CHARS - 1).join("")}…` : name;
  const larger = (a, b) => (b.width * b.height > a.width * a.height ? b : a);
  const { x, y, width } = rings.map(boxOf).reduce(larger);
  return { text, x: x + width / 2, y, width };
}

export class Outlines {
  constructor() {
    this.names = [];
  }

  // outlines: [{name, kind, rings}, ...], with x and y in level-0 px.
  draw(outlines) {
    const drawn = outlines.filter((one) => one.rings.length);
    $("outline-paths").replaceChildren(...drawn.flatMap(({ kind, rings }) => {
      const d = pathOf(rings);
      return [element("path", { d, class: "halo" }), element("path", { d, class: kind })];
    }));
    this.names = drawn.map(nameOf);
    $("outline-names").replaceChildren(...this.names.map((one) => one.text));
  }

  // matrix: of the transform from level-0 px to px of the screen.
  place(matrix) {
    $("outline-paths").setAttribute("transform", `matrix(${matrix.join(" ")})`);
    const [scaleX, , , scaleY, left, top] = matrix;
    for (const { text, x, y, width } of this.names) {
      text.setAttribute("x", x * scaleX + left);
      text.setAttribute("y", y * scaleY + top - 6);
      text.toggleAttribute("hidden", width * scaleX < NAMED_PX);
    }
  }
}

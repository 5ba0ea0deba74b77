// Small helpers for elements. All text is set as text, never as HTML.

export const $ = (id) => document.getElementById(id);

export function make(tag, values = {}, ...children) {
  const element = document.createElement(tag);
  const { text, ...others } = values;
  for (const [name, value] of Object.entries(others)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  element.append(...children);
  return element;
}

export const rgb = (color) => `rgb(${color.map(Number).join(",")})`;

export const words = (name) => String(name).replaceAll("_", " ");

export function number(value) {
  if (value === null || value === undefined || value === "") return "–";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return value.toLocaleString("en");
  return value.toLocaleString("en", { maximumSignificantDigits: 4 });
}

export const area = (mm2) => (typeof mm2 === "number" ? `${number(mm2)} mm²` : "–");

export function length(um) {
  return um >= 1000 ? `${number(um / 1000)} mm` : `${number(um)} µm`;
}

// Largest of 1, 2 or 5 times a power of ten that is not above a length (um).
export function roundLength(um) {
  const power = 10 ** Math.floor(Math.log10(um));
  const times = [5, 2, 1].find((t) => t * power <= um) || 1;
  return times * power;
}

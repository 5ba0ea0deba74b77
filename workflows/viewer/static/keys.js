// Keys of the page: key, action, and the words of the help panel.

export const KEYS = [
  ["j", "next-slide", "next slide"],
  ["k", "previous-slide", "previous slide"],
  ["/", "search", "search the list of slides"],
  ["g", "largest", "largest tumor focus"],
  ["n", "next-focus", "next tumor focus"],
  ["p", "previous-focus", "previous tumor focus"],
  ["m", "mask-on", "mask on or off"],
  ["o", "outline", "outlines or filled areas"],
  ["c", "all-classes", "all classes on or off"],
  ["1 to 9", "class", "one class on or off, in the order of the list"],
  ["[", "fainter", "mask and heat map fainter"],
  ["]", "stronger", "mask and heat map stronger"],
  ["t", "tumor", "heat map of tumor on or off"],
  ["u", "confidence", "heat map of confidence on or off"],
  ["i", "regions", "regions of interest on or off"],
  ["+", "zoom-in", "zoom in"],
  ["-", "zoom-out", "zoom out"],
  ["0", "whole", "whole slide"],
  ["Arrows", "move", "move the slide"],
  ["a", "accepted", "accept the slide"],
  ["r", "rejected", "reject the slide"],
  ["l", "look_again", "mark the slide to be looked at again"],
  ["e", "note", "write the note"],
  ["d", "draw", "draw a region to leave out"],
  ["Space", "corner", "corner of the region at the middle of the picture"],
  ["Backspace", "back", "take the last corner of the region back"],
  ["Enter", "finish", "end the region"],
  ["Escape", "drop", "drop the region, leave a field, close this panel"],
  ["?", "help", "this panel"],
];

const NAMES = { " ": "Space", "=": "+", _: "-" };
const CONTROLS = new Set(["Space", "Enter", "Arrows", "Backspace"]);

// Name of a pressed key as it stands in KEYS.
function nameOf(key) {
  if (/^[1-9]$/.test(key)) return "1 to 9";
  if (key.startsWith("Arrow")) return "Arrows";
  return NAMES[key] || key;
}

const TYPED = "textarea, select, input:not([type=checkbox]):not([type=range])";

function isForControl(target, name) {
  if (!(target instanceof Element)) return false;
  if (target.matches(TYPED)) return name !== "Escape";
  return CONTROLS.has(name) && target.matches("button, a, input, [role=listbox]");
}

// Call act(action, key) for each key that is not meant for a field. It returns false to let it pass.
export function listen(act) {
  const actions = new Map(KEYS.map(([key, action]) => [key, action]));
  document.addEventListener("keydown", (event) => {
    const name = nameOf(event.key);
    const action = actions.get(name);
    if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
    if (isForControl(event.target, name)) return;
    if (act(action, event.key) === false) return;
    event.preventDefault();
    event.stopPropagation();
  }, true);
}

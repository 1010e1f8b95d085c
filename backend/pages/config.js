// A label config as a document: read, changed in place, and written out again.

const MASKS = [
  "BrushLabels", "BitmaskLabels", "PolygonLabels", "VectorLabels", "RectangleLabels",
  "EllipseLabels", "KeyPointLabels", "Brush", "Bitmask", "Polygon", "Vector", "Rectangle",
  "Ellipse", "KeyPoint",
];

/** `sky, house|home` -> [["sky"], ["house", "home"]] */
export function parsedWords(text) {
  const seen = new Set();
  const found = [];
  for (const part of text.split(",")) {
    const words = part.split("|").map((word) => word.trim().replace(/\s+/g, " ")).filter(Boolean);
    if (!words.length || seen.has(words[0].toLowerCase())) continue;
    seen.add(words[0].toLowerCase());
    found.push(words);
  }
  return found;
}

/** A config with one brush label per entry of `parsedWords`, in these colours where they are given. */
export function configOf(words, colours = {}) {
  const root = document.implementation.createDocument(null, "View");
  const add = (parent, tag, attributes, indent) => {
    const element = root.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    parent.append(`\n${indent}`, element);
    return element;
  };
  const view = root.documentElement;
  add(view, "Image", { name: "image", value: "$image", zoom: "true" }, "  ");
  const control = add(view, "BrushLabels", { name: "masks", toName: "image" }, "  ");
  for (const label of words) add(control, "Label", labelAttributes(label, colours[label[0]]), "    ");
  control.append("\n  ");
  view.append("\n");
  return new Config(new XMLSerializer().serializeToString(root));
}

function labelAttributes(words, colour) {
  const told = colour ? { value: words[0], background: colour } : { value: words[0] };
  if (words.length > 1) told.predicted_values = words.join(", ");
  return told;
}

export class Config {
  /** Throws Error with a sentence for a text that is no XML. */
  constructor(text) {
    this.root = new DOMParser().parseFromString(text.trim(), "text/xml");
    if (this.root.querySelector("parsererror")) {
      throw new Error("This is no label config: it cannot be read as XML.");
    }
  }

  toString() {
    return new XMLSerializer().serializeToString(this.root);
  }

  copy() {
    return new Config(this.toString());
  }

  /** The tag a control of the service stands for; null where it is not there. */
  tag(name) {
    const all = [...this.root.querySelectorAll("[name][toName]")];
    return all.find((one) => one.getAttribute("name") === name && MASKS.includes(one.tagName))
      ?? all.find((one) => one.getAttribute("name") === name) ?? null;
  }

  /** The element of a label by its name in results. */
  label(control, name) {
    const tag = this.tag(control);
    const named = (one) => (one.getAttribute("alias") || one.getAttribute("value")) === name;
    const own = [...(tag?.querySelectorAll("Label") ?? [])].find(named);
    return own ?? [...this.root.querySelectorAll("Labels Label")].find(named) ?? null;
  }

  /** Attribute of a tag or label, "" where it says nothing and null where it is not there. */
  static get(element, name) {
    return element?.getAttribute(name) ?? null;
  }

  /** Set an attribute; null takes it away. */
  static set(element, name, value) {
    if (!element) return;
    if (value === null) element.removeAttribute(name);
    else element.setAttribute(name, String(value));
  }

  /** Give a mask tag these labels, keeping what is known of those that stay. */
  replaceLabels(control, words) {
    const tag = this.tag(control);
    if (!tag) return;
    const before = new Map(
      [...tag.querySelectorAll("Label")].map((one) => [one.getAttribute("value").toLowerCase(), one]),
    );
    while (tag.firstChild) tag.firstChild.remove();
    for (const label of words) {
      const element = before.get(label[0].toLowerCase()) ?? this.root.createElement("Label");
      if (typed(element) !== label.join("|")) {
        const known = lookedFor(element);
        const named = !known.length || known.includes(element.getAttribute("value"));
        element.setAttribute("value", label[0]);
        const looked = named ? label : label.slice(1); // a name that was no word stays none
        Config.set(element, "predicted_values", label.length > 1 ? looked.join(", ") : null);
      }
      tag.append("\n    ", element);
    }
    tag.append("\n  ");
  }

  /** The labels of a tag as one types them. */
  words(control) {
    const labels = [...(this.tag(control)?.querySelectorAll("Label") ?? [])];
    return labels.map(typed).join(", ");
  }
}

/** What a label says it is looked for by. */
function lookedFor(label) {
  return (label.getAttribute("predicted_values") ?? "").split(",").map((w) => w.trim()).filter(Boolean);
}

/** A label and its synonyms as one types them. */
function typed(label) {
  const name = label.getAttribute("value") ?? "";
  return [name, ...lookedFor(label).filter((word) => word !== name)].join("|");
}

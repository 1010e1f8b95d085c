// One picture with what was found on it: drawn once per change, moved and zoomed by the compositor.
import { unpacked } from "./http.js";

const SHADES = 7; // of a label's colour, for pieces side by side
const OUTLINED = 4_000_000; // pixels up to which outlines are drawn
const NUDGE = 1 / 40; // of the picture, per arrow key

/** What the service says of a pane, with its maps unpacked. */
export async function readPane(told) {
  const wide = (bytes) => new Uint16Array(bytes.buffer, 0, bytes.byteLength >> 1);
  const [map, layers, pieces, claims, doubt] = await Promise.all([
    unpacked(told.label_map),
    told.layers ? unpacked(told.layers) : null,
    told.pieces ? unpacked(told.pieces) : null,
    unpacked(told.claims),
    unpacked(told.doubt),
  ]);
  return {
    ...told,
    map: told.labels.length > 255 ? wide(map) : map,
    layers,
    pieces: pieces && wide(pieces),
    claims,
    doubt,
  };
}

/** 0xAABBGGRR of a colour, lightened or darkened by a share. */
function packedColour([red, green, blue], share = 0, alpha = 255) {
  const shade = (value) => Math.round(share < 0 ? value * (1 + share) : value + (255 - value) * share);
  return ((alpha << 24) | (shade(blue) << 16) | (shade(green) << 8) | shade(red)) >>> 0;
}

/** What every label claims at a place given from 0 to 1 across and down; bilinear. */
export function claimsAt(pane, across, down) {
  const [high, wide] = pane.grid_hw;
  const x = Math.min(Math.max(across * wide - 0.5, 0), wide - 1);
  const y = Math.min(Math.max(down * high - 0.5, 0), high - 1);
  const [left, top] = [Math.floor(x), Math.floor(y)];
  const [right, low] = [Math.min(left + 1, wide - 1), Math.min(top + 1, high - 1)];
  const [fx, fy] = [x - left, y - top];
  return pane.labels.map((_, index) => {
    const at = (row, column) => pane.claims[(index * high + row) * wide + column];
    const over = at(top, left) * (1 - fx) + at(top, right) * fx;
    const under = at(low, left) * (1 - fx) + at(low, right) * fx;
    return ((over * (1 - fy) + under * fy) / 255) * pane.most;
  });
}

/** Index of the label at a place, or -1. */
export function labelAt(pane, across, down) {
  const [high, wide] = pane.map_hw;
  const x = Math.min(Math.floor(across * wide), wide - 1);
  const y = Math.min(Math.floor(down * high), high - 1);
  return pane.map[y * wide + x] - 1;
}

/** Where two panes of a picture name different labels: a mask of the first one's size. */
export function difference(first, second) {
  const names = new Map(first.labels.map((label, index) => [label.name, index + 1]));
  let next = first.labels.length + 1;
  const translated = [0, ...second.labels.map((label) => names.get(label.name) ?? next++)];
  const [high, wide] = first.map_hw;
  const [otherHigh, otherWide] = second.map_hw;
  const mask = new Uint8Array(high * wide);
  let count = 0;
  for (let y = 0; y < high; y++) {
    const row = Math.floor((y * otherHigh) / high) * otherWide;
    for (let x = 0; x < wide; x++) {
      const other = translated[second.map[row + Math.floor((x * otherWide) / wide)]];
      if (other !== first.map[y * wide + x]) {
        mask[y * wide + x] = 1;
        count++;
      }
    }
  }
  return { mask, hw: [high, wide], share: count / (high * wide) };
}

export class Stage {
  /** `heard` is told of the place pointed at, from 0 to 1, or null, and whether by a key. */
  constructor(title, heard) {
    this.heard = heard;
    this.pane = null;
    this.shown = { view: "masks", opacity: 0.6, hidden: new Set(), label: null };
    this.zoom = { scale: 1, x: 0, y: 0 };
    this.different = null;
    this.place = [0.5, 0.5];
    this._build(title);
    this._listen();
  }

  _build(title) {
    const make = (tag, name) => Object.assign(document.createElement(tag), { className: name });
    this.figure = make("figure", "stage card");
    this.caption = make("figcaption", "row");
    this.title = make("strong", "stage-title");
    this.summary = make("span", "muted small");
    this.caption.append(this.title, this.summary);
    this.viewport = make("div", "viewport");
    this.viewport.tabIndex = 0;
    this.viewport.setAttribute("role", "application");
    this.layers = make("div", "layers");
    this.image = make("img", "picture");
    this.image.alt = "";
    this.canvas = make("canvas", "over");
    this.cross = make("span", "cross");
    this.cross.hidden = true;
    this.layers.append(this.image, this.canvas, this.cross);
    this.busy = make("progress", "busy bar");
    this.busy.hidden = true;
    this.busy.setAttribute("aria-label", "Looking at the picture");
    this.viewport.append(this.layers, this.busy);
    this.figure.append(this.caption, this.viewport);
    this.rename(title);
  }

  /** What it is called where there are two; "" where it is alone. */
  rename(title) {
    this.title.textContent = title;
    this.figure.classList.toggle("alone", !title);
    const keys = "arrow keys move over the picture, plus and minus zoom";
    this.viewport.setAttribute("aria-label", `${title || "Picture"}: ${keys}`);
  }

  _listen() {
    const view = this.viewport;
    let dragged = null;
    view.addEventListener("pointermove", (event) => {
      if (dragged && this.zoom.scale > 1) {
        this.zoom.x += event.clientX - dragged[0];
        this.zoom.y += event.clientY - dragged[1];
        dragged = [event.clientX, event.clientY];
        this._move();
        return;
      }
      this._point(event);
    });
    view.addEventListener("pointerdown", (event) => {
      dragged = [event.clientX, event.clientY];
      if (this.zoom.scale > 1) view.setPointerCapture(event.pointerId);
      this._point(event);
    });
    for (const name of ["pointerup", "pointercancel"]) view.addEventListener(name, () => (dragged = null));
    view.addEventListener("pointerleave", () => this.heard(this, null, false));
    view.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      this.zoomBy(Math.exp(-event.deltaY / 300), event);
    }, { passive: false });
    view.addEventListener("keydown", (event) => {
      const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      if (moves[event.key]) {
        event.preventDefault();
        const step = event.shiftKey ? NUDGE / 5 : NUDGE;
        this.place = this.place.map((value, axis) =>
          Math.min(Math.max(value + moves[event.key][axis] * step, 0), 0.9999));
        this._mark();
        this.heard(this, this.place, true);
      } else if (event.key === "+" || event.key === "=") this.zoomBy(1.25);
      else if (event.key === "-") this.zoomBy(0.8);
      else if (event.key === "0") this.fit();
    });
    view.addEventListener("blur", () => (this.cross.hidden = true));
  }

  _point(event) {
    const box = this.layers.getBoundingClientRect();
    const place = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    if (place.some((value) => value < 0 || value >= 1)) this.heard(this, null, false);
    else {
      this.place = place;
      this.heard(this, place, false);
    }
  }

  _mark() {
    this.cross.hidden = false;
    this.cross.style.left = `${100 * this.place[0]}%`;
    this.cross.style.top = `${100 * this.place[1]}%`;
    if (this.zoom.scale === 1) return;
    const [cross, view] = [this.cross, this.viewport].map((one) => one.getBoundingClientRect());
    this.zoom.x += Math.max(view.left - cross.left, 0) - Math.max(cross.right - view.right, 0);
    this.zoom.y += Math.max(view.top - cross.top, 0) - Math.max(cross.bottom - view.bottom, 0);
    this._move();
  }

  /** Show a picture, with nothing found on it yet. */
  setPicture(address, [high, wide], name) {
    this.image.src = address;
    this.image.alt = name;
    this.layers.style.aspectRatio = `${wide} / ${high}`;
    this.viewport.style.setProperty("--wide", wide);
    this.viewport.style.setProperty("--high", high);
    this.viewport.classList.add("filled");
    this.pane = this.different = null;
    this.canvas.width = this.canvas.height = 0;
    this.fit();
  }

  setPane(pane) {
    this.pane = pane;
    this.draw();
  }

  /** Around a pointer's place, or the middle. */
  zoomBy(factor, at = null) {
    const scale = Math.min(Math.max(this.zoom.scale * factor, 1), 16);
    const moved = scale / this.zoom.scale;
    const box = this.viewport.getBoundingClientRect();
    const [x, y] = at ? [at.clientX - box.left - box.width / 2, at.clientY - box.top - box.height / 2] : [0, 0];
    this.zoom = scale === 1
      ? { scale, x: 0, y: 0 }
      : { scale, x: x - (x - this.zoom.x) * moved, y: y - (y - this.zoom.y) * moved };
    this._move();
  }

  fit() {
    this.zoom = { scale: 1, x: 0, y: 0 };
    this._move();
  }

  _move() {
    const { scale, x, y } = this.zoom;
    this.layers.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    this.viewport.classList.toggle("near", scale > 1);
  }

  /** Draw what `shown` asks for; a change of opacity alone needs no drawing. */
  draw() {
    this.canvas.style.opacity = this.different ? Math.max(this.shown.opacity, 0.85) : this.shown.opacity;
    const pane = this.pane;
    if (!pane || this.shown.view === "nothing") {
      this.canvas.width = this.canvas.height = 0;
      return;
    }
    if (this.different) this._paint(this.different.hw, this._different());
    else if (this.shown.view === "masks") this._paint(pane.map_hw, this._masks(pane));
    else this._paint(pane.grid_hw, this._heat(pane));
  }

  _paint([high, wide], colours) {
    this.canvas.width = wide;
    this.canvas.height = high;
    const bytes = new Uint8ClampedArray(colours.buffer);
    this.canvas.getContext("2d").putImageData(new ImageData(bytes, wide, high), 0, 0);
  }

  _masks(pane) {
    return pane.layers ? this._overlapping(pane) : this._plain(pane);
  }

  _plain(pane) {
    const [high, wide] = pane.map_hw;
    const hidden = this.shown.hidden;
    const seen = (index) => !hidden.has(pane.labels[index].name);
    const table = new Uint32Array((pane.labels.length + 1) * SHADES);
    const edges = new Uint32Array(pane.labels.length + 1);
    pane.labels.forEach(({ colour }, index) => {
      if (!seen(index)) return;
      for (let shade = 0; shade < SHADES; shade++) {
        const share = ((shade * 3) % SHADES) / SHADES * 0.7 - 0.35;
        table[(index + 1) * SHADES + shade] = packedColour(colour, pane.pieces ? share : 0);
      }
      edges[index + 1] = packedColour(colour, -0.45);
    });
    const { map, pieces } = pane;
    const out = new Uint32Array(high * wide);
    for (let i = 0; i < out.length; i++) {
      out[i] = table[map[i] * SHADES + (pieces ? pieces[i] % SHADES : 0)];
    }
    if (out.length <= OUTLINED) {
      for (let y = 0, i = 0; y < high; y++) {
        for (let x = 0; x < wide; x++, i++) {
          const own = map[i];
          if (!own) continue;
          const edge = (x && map[i - 1] !== own) || (x + 1 < wide && map[i + 1] !== own)
            || (y && map[i - wide] !== own) || (y + 1 < high && map[i + wide] !== own);
          if (edge) out[i] = edges[own];
        }
      }
    }
    return out;
  }

  /** The mean colour of all labels at a pixel; eight pixels share a byte of each label. */
  _overlapping(pane) {
    const [high, wide] = pane.map_hw;
    const bytes = Math.ceil((high * wide) / 8);
    const out = new Uint32Array(high * wide);
    const shown = pane.labels
      .map(({ colour, name, area }, index) => ({ colour, name, area, from: index * bytes }))
      .filter(({ name, area }) => area && !this.shown.hidden.has(name));
    const count = shown.length;
    const [reds, greens, blues] = [0, 1, 2].map((part) => Uint8Array.from(shown, (one) => one.colour[part]));
    const from = Uint32Array.from(shown, (one) => one.from);
    const held = new Uint8Array(count);
    for (let byte = 0; byte < bytes; byte++) {
      let any = 0;
      for (let label = 0; label < count; label++) any |= held[label] = pane.layers[from[label] + byte];
      if (!any) continue;
      for (let bit = 0x80, i = byte * 8; bit && i < out.length; bit >>= 1, i++) {
        if (!(any & bit)) continue;
        let red = 0, green = 0, blue = 0, several = 0;
        for (let label = 0; label < count; label++) {
          if (held[label] & bit) {
            red += reds[label];
            green += greens[label];
            blue += blues[label];
            several++;
          }
        }
        out[i] = (0xff000000 | ((blue / several) << 16) | ((green / several) << 8) | (red / several)) >>> 0;
      }
    }
    return out;
  }

  _heat(pane) {
    const [high, wide] = pane.grid_hw;
    const out = new Uint32Array(high * wide);
    const index = Math.max(pane.labels.findIndex((label) => label.name === this.shown.label), 0);
    const doubt = this.shown.view === "doubt";
    const colour = doubt ? [190, 24, 93] : pane.labels[index].colour;
    const from = index * high * wide;
    for (let i = 0; i < out.length; i++) {
      const value = doubt ? pane.doubt[i] : pane.claims[from + i];
      out[i] = packedColour(colour, 0, value);
    }
    return out;
  }

  _different() {
    const { mask } = this.different;
    const out = new Uint32Array(mask.length);
    const colour = packedColour([219, 39, 119]);
    for (let i = 0; i < out.length; i++) if (mask[i]) out[i] = colour;
    return out;
  }

  /** Say that it works, and how far it is, from 0 to 1; null where nobody knows; done: hide. */
  progress(share, done = false) {
    this.busy.hidden = done;
    this.viewport.setAttribute("aria-busy", String(!done));
    if (share === null) this.busy.removeAttribute("value");
    else this.busy.value = share;
  }
}

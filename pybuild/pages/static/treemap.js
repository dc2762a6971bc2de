// A treemap (Bruls, Huizing, van Wijk: Squarified Treemaps, 2000) of a directory: areas are bytes.

const TITLE = 16; // pixels of a directory's name above its content
const SMALLEST = 7; // pixels; a smaller tile is not drawn
const NESTED = 60; // pixels; a smaller directory is one tile

/** Rectangles of values, the largest first, inside a rectangle {x, y, w, h}. */
function squarified(values, { x, y, w, h }) {
  const total = values.reduce((sum, value) => sum + value, 0);
  const found = [];
  if (!(total > 0) || w <= 0 || h <= 0) return found;
  const scale = (w * h) / total;
  let at = 0;
  while (at < values.length && w > 0 && h > 0) {
    const side = Math.min(w, h);
    let sum = 0, end = at, worst = Infinity;
    while (end < values.length) {
      const next = sum + values[end] * scale;
      const thick = next / side;
      const ratio = Math.max((values[at] * scale) / thick / thick, (thick * thick) / (values[end] * scale));
      if (ratio > worst) break;
      worst = ratio;
      sum = next;
      end++;
    }
    const thick = sum / side;
    let along = 0;
    for (; at < end; at++) {
      const long = (values[at] * scale) / thick;
      found.push(w >= h ? { x, y: y + along, w: thick, h: long } : { x: x + along, y, w: long, h: thick });
      along += long;
    }
    if (w >= h) [x, w] = [x + thick, w - thick];
    else [y, h] = [y + thick, h - thick];
  }
  return found;
}

class Treemap {
  /** `select(node)` is told of a chosen tile; `colour(row)` gives [background, foreground] of a row. */
  constructor(files, select, colour) {
    Object.assign(this, { files, select, colour, root: -1 });
    this.head = make("div", { class: "map-head" });
    this.box = make("div", { class: "map", role: "group", "aria-label": "Sizes: each tile is a file or a directory" });
    on(this.box, "click", (event) => this.#click(event));
    on(this.box, "keydown", (event) => this.#key(event));
    let width = 0;
    new ResizeObserver(() => {
      if (this.box.clientWidth !== width) this.draw();
      width = this.box.clientWidth;
    }).observe(this.box);
  }

  /** Show a directory; -1 is everything. */
  show(node) {
    this.root = node;
    while (this.root >= 0 && !this.files.bytes[this.root]) this.root = this.files.parent[this.root];
    if (this.root >= 0 && this.files.depth[this.root] === 0) this.root = -1;
    this.draw();
  }

  draw() {
    this.#path();
    const tiles = [];
    let top = this.root;
    if (top < 0 && this.files.length && this.files.depth[0] === 0) top = 0;
    this.#place(top, { x: 0, y: 0, w: this.box.clientWidth, h: this.box.clientHeight }, 0, tiles);
    if (!tiles.length) tiles.push(make("p", { class: "empty" }, "There are no bytes in what the filter has left."));
    else tiles[0].tabIndex = 0;
    this.box.replaceChildren(...tiles);
  }

  #place(parent, area, level, tiles) {
    const { files } = this;
    const nodes = files.sortedChildren(parent, true).filter((node) => files.bytes[node] > 0);
    const places = squarified(nodes.map((node) => files.bytes[node]), area);
    nodes.forEach((node, index) => {
      const place = places[index];
      if (!place || place.w < SMALLEST || place.h < SMALLEST) return;
      const nested = files.isDirectory(node) && level < 3 && place.w > NESTED && place.h > NESTED;
      tiles.push(this.#tile(node, place, nested));
      if (nested) {
        this.#place(node, { x: place.x + 2, y: place.y + TITLE, w: place.w - 4, h: place.h - TITLE - 2 }, level + 1, tiles);
      }
    });
  }

  #tile(node, { x, y, w, h }, nested) {
    const { files } = this;
    const name = files.names[node] + (files.isDirectory(node) ? "/" : "");
    const told = files.sizeText(node);
    const tile = make(
      "button",
      {
        type: "button", class: nested ? "tile group" : "tile", tabindex: "-1", "data-node": node,
        title: `${files.path(node)}\n${told}`, "aria-label": `${files.path(node)}, ${told}`,
      },
      w > 26 && h > 13 && make("span", {}, nested ? `${name} ${told}` : name),
      !nested && w > 40 && h > 30 && make("span", {}, told));
    Object.assign(tile.style, { left: `${x}px`, top: `${y}px`, width: `${w}px`, height: `${h}px` });
    if (!nested) [tile.style.background, tile.style.color] = this.colour(files.top[node]);
    return tile;
  }

  #path() {
    const parts = [];
    for (let node = this.root; node >= 0; node = this.files.parent[node]) if (this.files.names[node]) parts.unshift(node);
    const link = (node, text) => on(make("button", { class: "link", type: "button" }, text), "click", () => this.show(node));
    fill(this.head, link(-1, "/"), parts.map((node, at) => [at ? "/" : "", link(node, this.files.names[node])]));
  }

  #click(event) {
    const tile = event.target.closest(".tile");
    if (!tile) return;
    const node = Number(tile.dataset.node);
    this.select(node);
    if (this.files.isDirectory(node)) {
      this.show(node);
      if (event.detail === 0) this.box.querySelector(".tile")?.focus(); // by the keyboard
    }
  }

  #key(event) {
    const tiles = [...this.box.querySelectorAll(".tile")], at = tiles.indexOf(document.activeElement);
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step) {
      const next = tiles[Math.max(0, Math.min(tiles.length - 1, at + step))];
      tiles[at].tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    } else if (event.key === "Backspace" || event.key === "Escape") {
      if (this.root < 0) return;
      this.show(this.files.parent[this.root]);
      this.box.querySelector(".tile")?.focus();
    } else return;
    event.preventDefault();
  }
}

// The tree of files: only the lines that are on the screen exist. It follows the pattern "tree view" of WAI-ARIA.

const ROW_HEIGHT = 24;
const SPARE = 12; // lines beyond both ends of what is visible
const TALLEST = 15_000_000; // pixels of an element; browsers stop at 17 to 33 million

class Tree {
  /** `select(node)` is told when the user chooses another line. */
  constructor(files, select) {
    this.files = files;
    this.select = select;
    this.expanded = new Set();
    this.lines = [];
    this.levels = [];
    this.selected = -1;
    this.bySize = true;
    this.space = make("div", { class: "tree-space", role: "presentation" });
    this.box = make("div", { class: "tree", role: "tree", tabindex: "0", id: "tree", "aria-label": "Files" }, this.space);
    on(this.box, "scroll", () => this.#draw());
    on(this.box, "keydown", (event) => this.#key(event));
    on(this.box, "click", (event) => this.#click(event));
    new ResizeObserver(() => this.#draw()).observe(this.box);
  }

  /** The filter or the order has changed; `open`: show everything that is left, if that is little. */
  refresh(open) {
    const { files } = this;
    if (open) {
      this.opened = new Set();
      for (let node = 0; node < files.length && this.opened.size < 400; node++) {
        if (files.below[node] > (files.shown[node] >= 0 ? 1 : 0)) this.opened.add(node);
      }
    } else this.opened = null;
    this.#flatten();
    this.box.scrollTop = 0;
    this.#draw();
  }

  #isOpen(node) {
    return this.expanded.has(node) !== Boolean(this.opened?.has(node)); // a user can close what the filter opened
  }

  #hasChildren(node) {
    return this.files.below[node] > (this.files.shown[node] >= 0 ? 1 : 0);
  }

  #flatten() {
    this.lines = [];
    this.levels = [];
    this.places = []; // of each line, which of how many siblings it is
    const pending = [[this.files.sortedChildren(-1, this.bySize), 0]];
    while (pending.length) {
      const top = pending[pending.length - 1];
      if (top[1] >= top[0].length) {
        pending.pop();
        continue;
      }
      const node = top[0][top[1]++];
      this.lines.push(node);
      this.levels.push(pending.length);
      this.places.push(top[1], top[0].length);
      if (this.#isOpen(node) && this.#hasChildren(node)) pending.push([this.files.sortedChildren(node, this.bySize), 0]);
    }
    const height = this.lines.length * ROW_HEIGHT;
    this.scale = Math.max(1, height / TALLEST);
    this.space.style.height = `${Math.min(height, TALLEST)}px`;
    this.at = Math.max(0, this.lines.indexOf(this.selected));
  }

  #draw() {
    const { box, lines } = this;
    const from = Math.max(0, Math.floor((box.scrollTop * this.scale) / ROW_HEIGHT) - SPARE);
    const to = Math.min(lines.length, from + Math.ceil(box.clientHeight / ROW_HEIGHT) + 2 * SPARE);
    const offset = box.scrollTop - box.scrollTop * this.scale;
    const rows = [];
    for (let line = from; line < to; line++) rows.push(this.#row(line, offset));
    this.space.replaceChildren(...rows);
    const active = lines[this.at] === this.selected && this.at >= from && this.at < to;
    if (active) box.setAttribute("aria-activedescendant", `line-${this.at}`);
    else box.removeAttribute("aria-activedescendant");
  }

  #row(line, offset) {
    const { files } = this;
    const node = this.lines[line], row = files.shown[node];
    const open = this.#isOpen(node), parent = this.#hasChildren(node);
    const deleted = row >= 0 && files.change[row] === DELETED;
    const change = row >= 0 && (files.side !== undefined || files.marksChanges) ? CHANGE[files.change[row]] : null;
    const attribute = row >= 0 ? files.attribute[row] : -1;
    const name = (files.names[node] || "/") + (files.isDirectory(node) && files.names[node] ? "/" : "");
    const element = make(
      "div",
      {
        class: "row", role: "treeitem", id: `line-${line}`, "data-line": line, "aria-level": this.levels[line],
        "aria-posinset": this.places[2 * line], "aria-setsize": this.places[2 * line + 1],
        "aria-selected": node === this.selected ? "true" : "false", "aria-expanded": parent ? String(open) : null,
      },
      make("span", { class: "name" },
        make("span", { class: "twist", "aria-hidden": "true" }, parent ? (open ? "▾" : "▸") : ""),
        change && make("span", { class: `sign ${change.name}`, title: change.name }, change.sign),
        make("span", { class: deleted ? "label struck" : "label", title: name }, name)),
      make("span", { class: "size" }, files.sizeText(node)),
      make("span", { class: "dim mono" }, attribute >= 0 && !deleted ? modeText(files.kind[attribute], files.mode[attribute]) : ""),
      make("span", { class: "dim" }, attribute >= 0 && !deleted ? `${files.uid[attribute]}:${files.gid[attribute]}` : ""),
      make("span", { class: "dim" }, row >= 0 && files.side === undefined ? `#${files.layer[row] + 1}` : ""));
    element.style.top = `${line * ROW_HEIGHT + offset}px`;
    element.firstChild.style.paddingLeft = `${Math.min(this.levels[line] - 1, 24) * 0.9}rem`;
    return element;
  }

  /** Show a node, in opened directories. */
  reveal(node) {
    for (let above = this.files.parent[node]; above >= 0; above = this.files.parent[above]) {
      if (!this.#isOpen(above)) this.#toggle(above);
    }
    this.selected = node;
    this.#flatten();
    this.#scrollTo(this.at);
    this.#draw();
  }

  #toggle(node) {
    if (!this.expanded.delete(node)) this.expanded.add(node);
  }

  #scrollTo(line) {
    const top = (line * ROW_HEIGHT) / this.scale, { box } = this;
    if (top < box.scrollTop) box.scrollTop = top;
    else if (top + ROW_HEIGHT > box.scrollTop + box.clientHeight) box.scrollTop = top + ROW_HEIGHT - box.clientHeight;
  }

  #choose(line) {
    if (!this.lines.length) return;
    this.at = Math.max(0, Math.min(this.lines.length - 1, line));
    this.selected = this.lines[this.at];
    this.#scrollTo(this.at);
    this.#draw();
    this.select(this.selected);
  }

  #flip(line) {
    if (!this.#hasChildren(this.lines[line])) return;
    this.#toggle(this.lines[line]);
    this.#flatten();
    this.#draw();
  }

  #click(event) {
    const row = event.target.closest(".row");
    if (!row) return;
    const line = Number(row.dataset.line), twist = event.target.closest(".twist");
    this.#choose(line);
    if (twist || event.detail > 1) this.#flip(line);
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.floor(this.box.clientHeight / ROW_HEIGHT) - 1;
    const node = this.lines[this.at], started = node === this.selected;
    const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key in moves) this.#choose(started ? this.at + moves[event.key] : event.key === "End" ? Infinity : 0);
    else if (event.key === "ArrowRight" && this.#hasChildren(node)) this.#isOpen(node) ? this.#choose(this.at + 1) : this.#flip(this.at);
    else if (event.key === "ArrowLeft" && this.#hasChildren(node) && this.#isOpen(node)) this.#flip(this.at);
    else if (event.key === "ArrowLeft") this.#choose(Math.max(0, this.lines.indexOf(this.files.parent[node])));
    else if (event.key === "Enter" || event.key === " ") this.#flip(this.at);
    else if (event.key.length === 1) this.#typed(event.key.toLowerCase());
    else return;
    event.preventDefault();
  }

  /** The next line whose name begins with this letter. */
  #typed(letter) {
    for (let step = 1; step <= this.lines.length; step++) {
      const line = (this.at + step) % this.lines.length;
      if (this.files.names[this.lines[line]].toLowerCase().startsWith(letter)) return this.#choose(line);
    }
  }
}

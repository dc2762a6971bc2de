// The page of one image, or of the differences between two.

/** The colour of a layer: darker is older (cividis by Nuñez, Anderton and Renslow: the same to the colour-blind). */
function layerColour(layer, layers) {
  const stops = [[0, 34, 78], [46, 68, 108], [87, 93, 109], [112, 113, 115], [138, 134, 120], [177, 166, 108], [217, 198, 83], [254, 232, 56]];
  const at = layers > 1 ? (0.08 + (0.92 * layer) / (layers - 1)) * (stops.length - 1) : 4.4;
  const low = Math.min(stops.length - 2, Math.floor(at));
  const mixed = stops[low].map((value, part) => Math.round(value + (stops[low + 1][part] - value) * (at - low)));
  const light = 0.299 * mixed[0] + 0.587 * mixed[1] + 0.114 * mixed[2] > 120;
  return [`rgb(${mixed.join(" ")})`, light ? "#000" : "#fff"];
}

class Explorer {
  constructor(head, files) {
    this.head = head;
    this.files = files;
    this.isDifference = head.kind === "difference";
    this.images = this.isDifference ? head.images : [head.image];
    this.layers = head.image?.layers ?? [];
    this.reset();
    if (this.isDifference) this.#weighDifferences();
    files.sizeText = this.isDifference ? (node) => growth(files.grown[node]) : (node) => size(files.bytes[node]);
    this.tree = new Tree(files, (node) => this.#selected(node, true));
    this.map = new Treemap(files, (node) => this.#pick(node), (row) => this.#colour(row));
    this.detail = make("div", { class: "detail", "aria-live": "polite" });
    this.found = make("p", { class: "found", role: "status" });
    this.#selected(-1);
  }

  reset() {
    const changes = [true, true, true];
    this.wanted = { text: "", layer: -1, changes, owner: "", special: "", everything: this.isDifference };
  }

  /** What a difference counts in the treemap: the bytes that came, went, or are another content. */
  #weighDifferences() {
    const { files } = this;
    files.side = 1;
    files.weight = new Float64Array(files.rowCount);
    files.growths = new Float64Array(files.rowCount);
    files.grown = new Float64Array(files.length);
    for (let row = 0; row < files.rowCount; row++) {
      if (files.layer[row] !== 1) continue;
      const before = files.change[row] === ADDED ? 0 : files.size[row - 1];
      files.weight[row] = Math.max(before, files.size[row]);
      files.growths[row] = files.size[row] - before;
    }
  }

  #colour(row) {
    if (!this.isDifference) return layerColour(this.files.layer[row], this.layers.length);
    return [["var(--added-fill)", "#000"], ["var(--changed-fill)", "#000"], ["var(--deleted-fill)", "#000"]][this.files.change[row]];
  }

  /** Apply the filter to the tree and the treemap. */
  apply() {
    const start = performance.now();
    const { wanted, files } = this;
    files.marksChanges = wanted.layer >= 0 || wanted.everything || wanted.changes.includes(false);
    const { files: number, bytes } = files.choose(wanted);
    const narrowed = wanted.text || wanted.special || wanted.owner || files.marksChanges;
    this.tree.refresh(Boolean(narrowed) && number <= 300);
    this.map.show(this.map.root);
    fill(this.found, `${counted(number, "path")}, ${size(bytes)}`, this.isDifference ? " in files that differ" : "");
    document.documentElement.dataset.filterTime = (performance.now() - start).toFixed(1);
  }

  #pick(node) {
    this.tree.reveal(node);
    this.#selected(node);
  }

  /** Show a path: without a filter if that hides it. */
  find(node) {
    if (this.files.shown[node] < 0) {
      this.reset();
      this.wanted.everything = true;
      this.setForm();
      this.apply();
    }
    this.map.show(this.files.isDirectory(node) ? node : this.files.parent[node]);
    this.#pick(node);
    byId("files").scrollIntoView();
    this.tree.box.focus({ preventScroll: true });
  }

  #selected(node, byTree) {
    const { files } = this;
    if (node < 0) {
      fill(this.detail, make("p", { class: "note" }, "Choose a file to see its owner, its mode, and the layers that it is in."));
      return;
    }
    if (byTree && files.isDirectory(node) && files.bytes[node]) this.map.show(node);
    const rows = [];
    for (let row = files.first[node]; row < files.first[node + 1]; row++) rows.push(make("li", {}, this.#told(row)));
    fill(this.detail, make("p", { class: "path" }, files.path(node)), make("ul", {}, rows));
  }

  /** A row in words. */
  #told(row) {
    const { files } = this;
    const side = this.isDifference ? ["A", "B"][files.layer[row]] : `#${files.layer[row] + 1}`;
    const change = CHANGE[files.change[row]];
    const named = this.isDifference && files.layer[row] === 0 ? "" : ` ${change.name}`;
    if (files.change[row] === DELETED) return [`${side}`, make("span", { class: change.name }, named)];
    const at = files.attribute[row];
    const words = [
      KINDS[files.kind[at]] + (files.flags[at] & HARDLINK ? " (hard link)" : ""), modeText(files.kind[at], files.mode[at]),
      `${files.uid[at]}:${files.gid[at]}`,
    ];
    if (files.kind[at] === FILE) words.push(size(files.size[row]) + (files.size[row] >= 1000 ? ` (${count(files.size[row])} bytes)` : ""));
    if (files.links[files.link[row]]) words.push(`→ ${files.links[files.link[row]]}`);
    if (files.flags[at] & CAPABILITY) words.push("has capabilities");
    words.push(new Date(files.time[row] * 1000).toISOString().slice(0, 19).replace("T", " "));
    if (!this.isDifference && files.hidden[row]) words.push(`hidden by #${files.hidden[row]}`);
    return [side, make("span", { class: change.name }, named), `: ${words.join(", ")}`];
  }

  legend() {
    const swatch = (colour) => {
      const found = make("span", { class: "swatch", "aria-hidden": "true" });
      found.style.background = colour;
      return found;
    };
    if (!this.isDifference) return make("div", { class: "legend" }, "Colour: the layer; darker ones are older. Click to go in.");
    const names = ["added", "changed", "deleted"];
    return make("div", { class: "legend" }, names.map((name) => make("span", {}, swatch(`var(--${name}-fill)`), name)));
  }
}

function filesSection(explorer) {
  const { wanted, files, tree, map } = explorer;
  const field = (name, control, more = "") => make("label", { class: `field ${more}` }, make("span", {}, name), control);
  const select = (id, options) => make("select", { id }, options.map(([value, text]) => make("option", { value }, text)));
  const text = make("input", { type: "search", id: "filter-text", placeholder: "name, or part of a path", autocomplete: "off", spellcheck: "false" });
  const layer = select("filter-layer", [["-1", "all"], ...explorer.layers.map((one, at) => [at, `#${at + 1} ${tidy(one.instruction).slice(0, 60)}`])]);
  const owner = select("filter-owner", [["", "anyone"], ...files.owners.slice(0, 300).map(([name, number]) => [name, `${name} (${count(number)})`])]);
  const special = select("filter-special", [
    ["", "anything"], ["files", "files only"], ["links", "links"], ["devices", "devices and FIFOs"], ["setuid", "setuid or setgid"],
    ["capability", "with capabilities"], ["writable", "writable by everybody"],
    ...(explorer.isDifference ? [] : [["hidden", "hidden by a later layer"], ["twice", "there more than once"]]),
  ]);
  const boxes = CHANGE.map(({ name, sign }) => make("input", { type: "checkbox", id: `filter-${name}`, checked: true }));
  const everything = select("filter-everything", [["", "the image as it is"], ["1", "all that its layers have"]]);
  const order = select("filter-order", [["size", "size"], ["name", "name"]]);
  const clear = make("button", { class: "plain-button", type: "button" }, "Reset");

  const read = () => {
    explorer.wanted = {
      text: text.value.trim(), layer: Number(layer.value), owner: owner.value, special: special.value,
      changes: boxes.map((box) => box.checked),
      everything: explorer.isDifference || Boolean(everything.value) || Number(layer.value) >= 0 || special.value === "hidden",
    };
    tree.bySize = order.value === "size";
    explorer.layerChosen?.();
    explorer.apply();
  };
  explorer.setForm = () => {
    const now = explorer.wanted;
    [text.value, layer.value, owner.value, special.value] = [now.text, now.layer, now.owner, now.special];
    everything.value = now.everything && now.layer < 0 ? "1" : "";
    boxes.forEach((box, at) => (box.checked = now.changes[at]));
  };
  explorer.chooseLayer = (number) => {
    layer.value = number;
    read();
  };
  let timer = 0;
  on(text, "input", () => {
    clearTimeout(timer);
    timer = setTimeout(read, 60);
  });
  for (const control of [layer, owner, special, everything, order, ...boxes]) on(control, "change", read);
  on(clear, "click", () => {
    explorer.reset();
    explorer.setForm();
    map.root = -1;
    read();
  });

  const headings = ["Name", explorer.isDifference ? "Growth" : "Size", "Mode", "Owner", explorer.isDifference ? "" : "Layer"];
  return section("files", explorer.isDifference ? "Files that differ" : "Files", "Sizes are those of the files, before compression.",
    make("div", { class: "filters screen-only", role: "search" },
      field("Search", text, "search"),
      explorer.isDifference ? null : field("Layer", layer),
      make("div", { class: "field", role: "group", "aria-label": "Changes" }, make("span", {}, "Changes"),
        make("div", { class: "choices" }, boxes.map((box, at) => make("label", {}, box,
          make("span", { class: CHANGE[at].name, "aria-hidden": "true" }, CHANGE[at].sign), CHANGE[at].name)))),
      field("Owner", owner), field("Only", special), explorer.isDifference ? null : field("Show", everything), field("Order", order), clear),
    explorer.found,
    make("div", { class: "browse" },
      make("div", { class: "panel" }, map.head, map.box, explorer.legend()),
      make("div", { class: "panel" },
        make("div", { class: "tree-head", "aria-hidden": "true" }, headings.map((text) => make("span", {}, text))), tree.box, explorer.detail)));
}

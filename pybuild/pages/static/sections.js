// The sections of a page about images, besides the files: layers and history, waste, the config.

function layersSection(explorer) {
  const image = explorer.head.image;
  const largest = Math.max(1, ...image.layers.map((layer) => layer.content));
  const buttons = [];
  const lines = image.history.map((line) => {
    const text = make("span", { class: "text" }, tidy(line.instruction) || "(the history does not tell)");
    if (line.layer === undefined) {
      return make("li", {}, make("div", { class: "layer empty-layer" }, make("span", { class: "number" }), make("span", { class: "meter-space" }), make("span", { class: "size" }), text));
    }
    const layer = image.layers[line.layer];
    const button = make("button", { class: "layer", type: "button", "aria-pressed": "false", title: when(line.created) });
    const swatch = make("span", { class: "swatch", "aria-hidden": "true" });
    [swatch.style.background] = layerColour(line.layer, image.layers.length);
    add(button, [make("span", { class: "number" }, swatch, line.layer + 1), meter(layer, largest), make("span", { class: "size" }, size(layer.content)), text]);
    const ids = make("span", { class: "ids", hidden: true },
      [layer.digest && `blob ${layer.digest} (${size(layer.size)})`, `tar ${layer.diff_id}`, when(line.created), layer.hidden && `later layers hide ${size(layer.hidden)}`]
        .filter(Boolean).join(" · "));
    button.append(ids);
    buttons.push(button);
    on(button, "click", () => explorer.chooseLayer(explorer.wanted.layer === line.layer ? -1 : line.layer));
    return make("li", {}, button);
  });
  explorer.layerChosen = () => {
    buttons.forEach((button, at) => {
      const chosen = at === explorer.wanted.layer;
      button.setAttribute("aria-pressed", String(chosen));
      button.querySelector(".ids").hidden = !chosen;
    });
  };
  return section("layers", "Layers and history", "Oldest first. Choose a layer to see only its files; stripes are bytes that later layers hide.",
    make("ol", { class: "panel layers" }, lines));
}

function meter(layer, largest) {
  const own = make("i"), hidden = make("b");
  own.style.width = `${(100 * layer.content) / largest}%`;
  hidden.style.left = `${(100 * (layer.content - layer.hidden)) / largest}%`;
  hidden.style.width = `${(100 * layer.hidden) / largest}%`;
  return make("span", { class: "meter", "aria-hidden": "true" }, own, layer.hidden ? hidden : null);
}

/** What later layers hide, by the path that they delete or replace: the largest first. */
function hiddenGroups(files) {
  const groups = new Map();
  for (let node = 0; node < files.length; node++) {
    for (let row = files.first[node]; row < files.first[node + 1]; row++) {
      const by = files.hidden[row] - 1, at = files.attribute[row];
      if (by < 0 || files.change[row] === DELETED || files.kind[at] !== FILE || !files.size[row] || files.flags[at] & SHARED) continue;
      const cause = causeOf(files, node, by), key = `${cause} ${files.layer[row]} ${by}`;
      const group = groups.get(key) ?? { node: cause, layer: files.layer[row], by, bytes: 0, number: 0 };
      group.bytes += files.size[row];
      group.number++;
      groups.set(key, group);
    }
  }
  return [...groups.values()].sort((one, other) => other.bytes - one.bytes);
}

/** The topmost path that the layer deletes or replaces, of this one and the directories that it is in. */
function causeOf(files, node, layer) {
  let found = node;
  for (let at = files.parent[node]; at >= 0; at = files.parent[at]) {
    for (let row = files.first[at]; row < files.first[at + 1]; row++) {
      if (files.layer[row] === layer && (files.change[row] === DELETED || files.kind[files.attribute[row]] !== DIRECTORY)) found = at;
    }
  }
  return found;
}

/** Files with the same content: the most useless bytes first. */
function copyGroups(files) {
  const groups = new Map();
  for (let node = 0; node < files.length; node++) {
    for (let row = files.first[node]; row < files.first[node + 1]; row++) {
      if (!files.copy[row]) continue;
      const group = groups.get(files.copy[row]) ?? { size: files.size[row], nodes: [] };
      group.nodes.push(node);
      groups.set(files.copy[row], group);
    }
  }
  return [...groups.values()].sort((one, other) => other.size * (other.nodes.length - 1) - one.size * (one.nodes.length - 1));
}

function wasteSection(explorer) {
  const { files } = explorer, image = explorer.head.image;
  const link = (node) => on(make("button", { class: "link", type: "button" }, files.path(node)), "click", () => explorer.find(node));
  const layer = (number) => [`#${number + 1} `, make("span", { class: "mono" }, tidy(image.layers[number].instruction).slice(0, 80))];
  const hidden = hiddenGroups(files), copies = copyGroups(files);
  const causes = longTable([">Bytes", "Path"], hidden.length, (at) => {
    const { node, bytes, number, layer: from, by } = hidden[at];
    return [size(bytes), [link(node), number > 1 ? ` (${counted(number, "file")})` : "",
      make("div", { class: "note" }, "written by ", layer(from), make("br"), "hidden by ", layer(by))]];
  }, "Bytes that later layers hide");
  const twice = longTable([">Bytes", "Paths"], copies.length, (at) => {
    const { size: each, nodes } = copies[at];
    return [size(each * (nodes.length - 1)),
      [make("div", { class: "note" }, `${nodes.length} times ${size(each)}`), nodes.slice(0, 4).map((node) => make("div", {}, link(node))), nodes.length > 4 ? `and ${nodes.length - 4} more` : ""]];
  }, "Files that are there more than once");
  const total = image.layers.reduce((sum, one) => sum + one.hidden, 0);
  return section("waste", "Waste", `${size(total)} hidden by later layers, ${size(explorer.head.repeated)} there more than once.`,
    make("div", { class: "columns" },
      make("div", {}, make("h3", {}, "Hidden by later layers"), make("div", { class: "panel" }, hidden.length ? causes : make("p", { class: "empty" }, "Nothing: no layer deletes or replaces a file of another one."))),
      make("div", {}, make("h3", {}, "There more than once"), make("div", { class: "panel" }, copies.length ? twice : make("p", { class: "empty" }, "Nothing: no two files have the same content.")))));
}

function largestSection(explorer) {
  const rows = explorer.head.largest.map(([path, bytes]) => [size(bytes), make("span", { class: "mono" }, path)]);
  return section("largest", "The largest things", "A directory stands for its content if no part of it has more than half of its bytes.",
    make("div", { class: "panel" }, rows.length ? table([">Size", "Path"], rows, "The largest files and directories") : make("p", { class: "empty" }, "The image has no files with content.")));
}

/** A config as names and values, in a flat list: [name, value, ...]. */
function configFacts(image) {
  const facts = [];
  const shell = (words) => words.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : JSON.stringify(word))).join(" ");
  for (const [name, value] of Object.entries(image.config)) {
    if (Array.isArray(value) && name !== "Env") facts.push([name, shell(value.map(String))]);
    else if (name === "Env") for (const pair of value) facts.push([`ENV ${pair.split("=")[0]}`, pair.slice(pair.indexOf("=") + 1)]);
    else if (name === "ExposedPorts" || name === "Volumes") facts.push([name, Object.keys(value).join(", ")]);
    else if (name === "Labels") for (const [label, text] of Object.entries(value)) facts.push([`LABEL ${label}`, String(text)]);
    else facts.push([name, typeof value === "object" ? JSON.stringify(value) : String(value)]);
  }
  for (const [name, value] of Object.entries(image.annotations)) facts.push([`annotation ${name}`, String(value)]);
  return facts;
}

function configSection(explorer) {
  const image = explorer.head.image;
  const facts = configFacts(image);
  return section("config", "Config", null,
    make("div", { class: "panel" },
      facts.length ? make("dl", { class: "facts" }, facts.map(([name, value]) => [make("dt", {}, name), make("dd", { class: "mono" }, value || "(empty)")])) : make("p", { class: "empty" }, "The config is empty.")),
    make("details", { class: "screen-only" }, make("summary", {}, "As JSON"), make("pre", { tabindex: "0" }, JSON.stringify(image.config, null, 2))));
}

function imageHead(explorer) {
  const { image, repeated } = explorer.head, { layers } = image;
  const content = layers.reduce((sum, layer) => sum + layer.content, 0), hidden = layers.reduce((sum, layer) => sum + layer.hidden, 0);
  const names = image.names.filter((name) => name !== image.name);
  return [
    make("div", { class: "head" }, make("h1", {}, image.name),
      make("p", { class: "about" }, [names.join(", "), image.platform, image.created && `created ${when(image.created)}`, image.digest].filter(Boolean).map((text) => make("span", {}, text)))),
    make("dl", { class: "stats" },
      stat("Files in the image", size(content - hidden), "before compression"),
      stat("To download", size(layers.reduce((sum, layer) => sum + layer.size, 0)), "all layers as they are stored"),
      stat("Layers", count(layers.length)),
      stat("Paths", count(explorer.paths)),
      stat("Hidden by later layers", size(hidden), `${percent(hidden, content)} of all content`),
      stat("There more than once", size(repeated), percent(repeated, content - hidden))),
  ];
}

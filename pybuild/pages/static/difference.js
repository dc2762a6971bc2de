// What two images differ in, besides their files: layers and config.

function differenceHead(explorer) {
  const [before, after] = explorer.head.images, { files } = explorer;
  const counts = [0, 0, 0];
  let grown = 0;
  for (let row = 0; row < files.rowCount; row++) {
    if (files.layer[row] !== 1) continue;
    counts[files.change[row]]++;
    grown += files.growths[row];
  }
  const about = (side, image) => make("p", { class: "about" }, [make("strong", {}, side), image.name, image.platform, when(image.created), image.digest].filter(Boolean).map((part) => make("span", {}, part)));
  return [
    make("div", { class: "head" }, make("h1", {}, before.name, " → ", after.name), about("A", before), about("B", after)),
    make("dl", { class: "stats" },
      stat("Growth", growth(grown), "content, before compression"),
      ...CHANGE.map(({ name, sign }, at) => stat(make("span", { class: name }, sign, " ", name), count(counts[at]), "paths")),
      stat("Layers in common", `${explorer.head.shared} of ${after.layers.length}`, `A has ${before.layers.length}`),
      stat("To download", growth(download(after) - download(before)), "as they are stored")),
  ];
}

const download = (image) => image.layers.reduce((sum, layer) => sum + layer.size, 0);

function differentLayersSection(explorer) {
  const { images, shared } = explorer.head;
  const rows = [];
  for (let at = 0; at < Math.max(...images.map((image) => image.layers.length)); at++) {
    const cells = images.map((image) => image.layers[at]);
    rows.push([`${at + 1}`, at < shared ? "in common" : "", ...cells.flatMap((layer) => (layer ? [size(layer.size), make("span", { class: "mono" }, tidy(layer.instruction))] : ["", ""]))]);
  }
  return section("layers", "Layers", "Sizes are those of the stored blobs.",
    make("div", { class: "panel scroll" }, rows.length ? table([">", "", ">A", "Instruction", ">B", "Instruction"], rows, "The layers of both images") : make("p", { class: "empty" }, "Neither has layers.")));
}

function differentConfigSection(explorer) {
  const [before, after] = explorer.head.images.map((image) => new Map([["platform", image.platform], ...configFacts(image)]));
  const rows = [];
  for (const name of new Set([...before.keys(), ...after.keys()])) {
    const was = before.get(name), is = after.get(name);
    if (was === is) continue;
    const value = (text) => (text === undefined ? make("span", { class: "note" }, "not there") : make("span", { class: "mono" }, text || "(empty)"));
    rows.push([name, value(was), value(is)]);
  }
  return section("config", "Config", null, make("div", { class: "panel" },
    rows.length ? table(["", "A", "B"], rows, "Differences of the configs") : make("p", { class: "empty" }, "The configs are equal.")));
}

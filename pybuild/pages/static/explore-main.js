readData().then(({ head, columns }) => {
  const files = new Files(columns);
  const explorer = new Explorer(head, files);
  const note = pageFooter();
  const filesPart = filesSection(explorer);
  if (explorer.isDifference) {
    showPage(topBar([["layers", "Layers"], ["config", "Config"], ["files", "Files"]]),
      differenceHead(explorer), differentLayersSection(explorer), differentConfigSection(explorer), filesPart, printedDifferences(explorer), note);
  } else {
    explorer.paths = visiblePaths(files);
    showPage(topBar([["layers", "Layers"], ["files", "Files"], ["largest", "Largest"], ["waste", "Waste"], ["config", "Config"]]),
      imageHead(explorer), layersSection(explorer), filesPart, largestSection(explorer), wasteSection(explorer), configSection(explorer), note);
  }
  if (files.length && files.depth[0] === 0) explorer.tree.expanded.add(0); // the root itself
  explorer.apply();
  document.documentElement.dataset.ready = "yes";
  setTimeout(() => files.prepareSearch());
}).catch((error) => {
  fill(byId("page"), make("h1", {}, "This page cannot be shown"), make("p", {}, String(error)));
  throw error;
});

function visiblePaths(files) {
  let found = 0;
  for (let row = 0; row < files.rowCount; row++) found += files.change[row] !== DELETED && !files.hidden[row];
  return found;
}

/** The list that is printed in place of the tree: the first thousand differences. */
function printedDifferences(explorer) {
  const { files } = explorer, lines = [];
  for (let row = 0, node = 0; row < files.rowCount && lines.length < 1000; row++) {
    while (files.first[node + 1] <= row) node++;
    if (files.layer[row] === 1) lines.push([CHANGE[files.change[row]].letter, growth(files.growths[row]), files.path(node)]);
  }
  return make("div", { class: "print-only" }, table(["", ">Growth", "Path"], lines));
}

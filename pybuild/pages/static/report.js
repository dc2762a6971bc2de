// The page of a build.

const WAIT_SHOWN = 0.05; // seconds

function seconds(value) {
  if (value < 0.0995) return `${Math.round(value * 1000)} ms`;
  if (value < 59.95) return `${value.toFixed(value < 9.95 ? 2 : 1)} s`;
  const whole = Math.round(value);
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${whole % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

const compared = (now, before) => `${seconds(Math.abs(now - before))} ${now < before ? "less" : "more"} than the build before`;
const change = (now, before) => `${now - before < 0 ? "−" : "+"}${seconds(Math.abs(now - before))}`;
const stepName = (step) => [step.platform, step.stage, step.number ? `${step.number}/${step.total}` : ""].filter(Boolean).join(" ");
const imageSize = (built) => (built?.layers ?? []).reduce((sum, layer) => sum + (layer.size || 0), 0);

/** The same step in the build before: with the same text, at the same place if there are several. */
function earlierStep(step, earlier) {
  const same = (earlier?.steps ?? []).filter((other) => other.instruction === step.instruction && other.stage === step.stage && other.platform === step.platform);
  return same.find((other) => other.number === step.number) ?? same[0];
}

function reportHead(data) {
  const { steps, earlier } = data;
  const ran = steps.filter((step) => step.outcome !== "cached");
  const began = data.time ? new Date(data.time * 1000).toISOString().slice(0, 19).replace("T", " ") + " UTC" : "";
  const longest = ran.reduce((found, step) => (!found || step.end - step.start > found.end - found.start ? step : found), null);
  const sizeNow = imageSize(data.built), sizeThen = imageSize(earlier?.built);
  let path = 0, until = 0; // a step can begin before the layer below is complete
  for (const step of ran.filter((one) => one.critical)) {
    path += Math.max(0, step.end - Math.max(step.start, until));
    until = Math.max(until, step.end);
  }
  return [
    make("div", { class: "head" },
      make("h1", {}, data.name || data.built?.names?.[0] || data.path || data.recipe || "Build", " ", make("span", { class: `state ${data.state}` }, data.state)),
      make("p", { class: "about" }, [data.path || data.recipe, data.target && `target ${data.target}`, began, `build ${data.build}`, data.built?.manifest]
        .filter(Boolean).map((text) => make("span", {}, text)))),
    make("dl", { class: "stats" },
      stat("Took", seconds(data.end), data.state === "done" && earlier?.state === "done" && compared(data.end, earlier.end)),
      stat("Steps", `${ran.length} ran`, `${steps.length - ran.length} cached, ${data.not_run.length} not run`),
      stat("Waited for", seconds(path), "the steps of the critical path"),
      longest && stat("Longest step", seconds(longest.end - longest.start), stepName(longest)),
      data.built && stat("Image", size(sizeNow), earlier?.built && sizeNow !== sizeThen ? `${size(Math.abs(sizeNow - sizeThen))} ${sizeNow < sizeThen ? "less" : "more"} than the build before` : "as it is stored"),
      stat("Warnings", count(data.warnings.length), data.notes.length ? counted(data.notes.length, "note") : "")),
  ];
}

function troubleSection(data) {
  const { error } = data;
  if (!error) return null;
  const step = data.steps.find((one) => one.node === error.failed_node || one.outcome === "failed");
  const place = error.file ? `${error.file}:${error.line}:${error.column}: ` : "";
  const tail = step?.output.split("\n").slice(-40).join("\n").trim();
  return make("div", { class: "panel trouble", role: "region", "aria-label": "Why the build failed" },
    make("p", {}, make("strong", {}, place, error.message)), error.hint && make("p", { class: "note" }, `Hint: ${error.hint}`),
    step && make("p", { class: "note" }, "In ", make("a", { href: `#step-${step.node}` }, stepName(step)), ": ", make("span", { class: "mono" }, step.instruction)),
    tail && make("pre", { tabindex: "0", "aria-label": "The end of its output" }, tail));
}

/** Round numbers of seconds for an axis of this length, at most seven of them. */
function ticks(end) {
  const steps = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400];
  const step = steps.find((one) => end / one <= 7) ?? 28800;
  return Array.from({ length: Math.floor(end / step) + 1 }, (_, at) => at * step);
}

function bar(kind, start, end, whole) {
  const found = make("i", { class: kind });
  found.style.left = `${(100 * start) / whole}%`;
  found.style.width = `${(100 * Math.max(0, end - start)) / whole}%`;
  return found;
}

function timelineSection(data) {
  const whole = Math.max(data.end, 0.001);
  const axis = make("div", {}, ticks(whole).map((time) => {
    const mark = make("span", {}, time ? seconds(time).replace(/\.0+ s/, " s") : "0");
    mark.style.left = `${(100 * time) / whole}%`;
    return mark;
  }));
  const track = (start, end, text, ...bars) => {
    const label = make("em", {}, text);
    const place = end / whole < 0.75 ? "" : start / whole > 0.25 ? "before" : "inside";
    label.className = place;
    if (place !== "inside") label.style.left = `${(100 * (place ? start : end)) / whole}%`;
    if (place === "inside") bars[bars.length - 1].append(label);
    return make("span", { class: "track" }, bars, place === "inside" ? null : label);
  };
  const lines = data.steps.map((step) => {
    const wait = step.wait > WAIT_SHOWN ? step.wait : 0;
    const told = step.outcome === "cached" ? "cached" : seconds(step.end - step.start) + (wait ? `, after waiting ${seconds(wait)}` : "");
    return make("li", {}, make("a", { class: "line", href: `#step-${step.node}`, title: step.instruction },
      make("span", { class: "what" }, make("b", {}, stepName(step)), " ", make("span", { class: "mono" }, step.instruction)),
      track(step.start - wait, step.end, told + (step.outcome === "failed" ? ", failed" : step.outcome === "stopped" ? ", stopped" : ""),
        wait ? bar("wait", step.start - wait, step.start, whole) : null,
        bar(step.outcome + (step.critical ? " critical" : ""), step.start, step.end, whole))));
  });
  const transfers = data.transfers.map(([name, verb, start, end, bytes]) => make("li", {}, make("div", { class: "line" },
    make("span", { class: "what" }, make("b", {}, verb), " ", make("span", { class: "mono" }, name)),
    track(start, end, `${size(bytes)}, ${seconds(end - start)}`, bar("transfer", start, end, whole)))));
  const key = (kind, text) => make("span", {}, make("span", { class: "track", "aria-hidden": "true" }, make("i", { class: kind })), text);
  return section("timeline", "Timeline", "What ran beside what. Outlined: the steps that the build waited for.",
    make("div", { class: "panel chart" }, make("div", { class: "axis", "aria-hidden": "true" }, axis),
      lines.length + transfers.length ? make("ol", {}, transfers, lines) : make("p", { class: "empty" }, "No step ran."),
      make("div", { class: "key" }, key("ran", "ran"), key("ran critical", "ran, on the critical path"), key("cached", "cached"),
        key("failed", "failed"), key("stopped", "stopped"), key("wait", "ready, and waiting"), key("transfer", "transfer"))));
}

function stepDetails(step, data) {
  const before = earlierStep(step, data.earlier);
  const time = step.outcome === "cached" ? "" : seconds(step.end - step.start);
  const difference = before && step.outcome !== "cached" && before.outcome !== "cached" ? ` (${change(step.end - step.start, before.seconds)})` : "";
  const facts = [time + difference, !step.content ? "" : size(step.content), step.critical ? "critical" : ""].filter(Boolean).join(" · ");
  const inside = [];
  if (before) inside.push(make("p", { class: "note" }, before.outcome === "cached" ? "In the build before it was cached." : before.outcome === "ran" ? `In the build before it took ${seconds(before.seconds)}.` : `In the build before: ${before.outcome}.`));
  if (step.causes) {
    inside.push(make("div", {}, make("h3", {}, "Why it was not cached"), make("ul", { class: "causes" },
      step.causes.map((cause) => make("li", {}, cause)),
      step.files === null ? make("li", {}, "other files; the store no longer knows which") : step.files.map(([path, how]) => make("li", {}, make("span", { class: "mono" }, path), `: ${how}`)),
      step.more_files ? make("li", {}, `and ${counted(step.more_files, "more file")}`) : null),
      step.compared_with ? make("p", { class: "note" }, `Compared with ${step.compared_with}.`) : null));
  }
  if (step.output) inside.push(make("div", {}, make("h3", {}, "Output", step.output_size ? make("span", { class: "note" }, ` ${size(step.output_size)}`) : null), make("pre", { tabindex: "0" }, step.output)));
  if (!inside.length) inside.push(make("p", { class: "note" }, step.outcome === "cached" ? "It was served from the cache." : "It printed nothing."));
  return make("details", { class: "step", id: `step-${step.node}`, open: step.outcome === "failed" },
    make("summary", {}, make("span", {}, make("span", { class: `badge ${step.outcome}` }, step.outcome)),
      make("span", { class: "text" }, make("b", {}, stepName(step)), " ", step.instruction), make("span", { class: "facts-line" }, facts)),
    make("div", { class: "inside" }, inside));
}

function stepsSection(data) {
  const all = data.steps.map((step) => stepDetails(step, data));
  const flip = make("button", { class: "quiet screen-only", type: "button" }, "Open all");
  on(flip, "click", () => {
    const open = all.some((one) => !one.open);
    all.forEach((one) => (one.open = open));
    fill(flip, open ? "Close all" : "Open all");
  });
  addEventListener("beforeprint", () => all.forEach((one) => (one.open = true)));
  const left = data.not_run.map((step) => make("div", { class: "step" }, make("div", { class: "left-out" }, make("span", { class: "badge not-run" }, "not run"), " ", make("b", {}, `${step.stage} ${step.number}`), " ", make("span", { class: "mono" }, step.instruction))));
  const found = section("steps", "Steps", "In the order in which they began, with the reason why each was not cached, and its output.",
    make("div", { class: "panel" }, all.length + left.length ? [all, left] : make("p", { class: "empty" }, "The build ended before its first step.")));
  found.firstChild.append(make("span", { class: "tools" }, flip));
  return found;
}

function imageSection(data) {
  if (!data.built) return null;
  const before = new Set((data.earlier?.built?.layers ?? []).map((layer) => layer.digest));
  const rows = (data.built.layers ?? []).map((layer) => [size(layer.size), [(layer.platforms ?? []).join(" "), " ", make("span", { class: "mono" }, layer.instruction || "(of the base)")],
    before.size ? (before.has(layer.digest) ? "as before" : make("span", { class: "added" }, "new")) : ""]);
  const largest = (data.built.largest ?? []).map((added) => [size(added.size), make("span", { class: "mono" }, added.path), make("span", { class: "mono" }, added.instruction)]);
  const outputs = data.outputs.map((out) => make("li", {}, out.event === "pushed" ? `pushed ${out.image}: ${size(out.sent)} sent, ${size(out.spared)} spared`
    : out.event === "exported" ? `wrote ${out.destination} (${size(out.size)})` : `cached to ${out.place}: ${counted(out.records, "record")}`));
  return section("image", "Image", (data.built.names ?? []).join(", "),
    make("div", { class: "columns" },
      make("div", {}, make("h3", {}, "Layers, as they are stored"), make("div", { class: "panel" }, rows.length ? table([">Size", "Instruction", ""], rows, "Layers") : make("p", { class: "empty" }, "It has no layers."))),
      largest.length ? make("div", {}, make("h3", {}, "Largest things that this build added"), make("div", { class: "panel" }, table([">Size", "Path", "Instruction"], largest, "Largest additions"))) : null),
    outputs.length ? make("ul", { class: "panel notes" }, outputs) : null);
}

function warningsSection(data) {
  const lines = [
    ...data.warnings.map((one) => make("li", {}, make("span", { class: "mono" }, `${one.file}:${one.line}:${one.column} `), make("strong", {}, one.rule), ` ${one.text}`)),
    ...data.notes.map((text) => make("li", {}, text)),
  ];
  return lines.length ? section("warnings", "Warnings and notes", null, make("ul", { class: "panel notes" }, lines)) : null;
}

/** A link to a step opens it. */
function openTarget() {
  const target = byId(location.hash.slice(1));
  if (target?.tagName === "DETAILS") target.open = true;
}

readData().then(({ head: data }) => {
  const warnings = warningsSection(data), image = imageSection(data);
  const links = [["timeline", "Timeline"], ["steps", "Steps"], image && ["image", "Image"], warnings && ["warnings", "Warnings"]].filter(Boolean);
  showPage(topBar(links), reportHead(data), troubleSection(data), timelineSection(data), stepsSection(data), image, warnings, pageFooter());
  on(document.body, "click", (event) => {
    const link = event.target.closest("a[href^='#step-']");
    if (link) byId(link.getAttribute("href").slice(1)).open = true;
  });
  openTarget();
  document.documentElement.dataset.ready = "yes";
}).catch((error) => {
  fill(byId("page"), make("h1", {}, "This page cannot be shown"), make("p", {}, String(error)));
  throw error;
});

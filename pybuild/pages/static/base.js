// Helpers of both pages. All files of a page become one script, in one function: they share their names.
// Texts of images and builds are hostile: they become text nodes and values of attributes that hold no code, nothing else.

const ATTRIBUTES = new Set([
  "class", "id", "type", "value", "for", "name", "title", "role", "tabindex", "href", "colspan", "scope", "placeholder",
  "autocomplete", "spellcheck", "hidden", "checked", "open", "lang",
]);

/** An element. `attributes`: names of ATTRIBUTES, aria-* or data-*; `children`: elements, texts, or nothing. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (!ATTRIBUTES.has(name) && !/^(aria|data)-[a-z]+$/.test(name)) throw new Error(`attribute ${name}`);
    if (name === "href" && !/^#[a-z0-9-]*$/.test(value)) throw new Error("a link that leaves the page");
    element.setAttribute(name, value === true ? "" : String(value));
  }
  add(element, children);
  return element;
}

function add(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false || child === "") continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

function fill(element, ...children) {
  element.replaceChildren();
  return add(element, children);
}

function on(element, event, action) {
  element.addEventListener(event, action);
  return element;
}

const byId = (id) => document.getElementById(id);

/** Bytes with a unit, in powers of 1000. */
function size(bytes) {
  const sign = bytes < 0 ? "−" : "";
  let value = Math.abs(bytes);
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (value < 999.5) return `${sign}${unit === "B" || value >= 99.95 ? Math.round(value) : value.toFixed(1)} ${unit}`;
    value /= 1000;
  }
  return `${sign}${value.toFixed(1)} TB`;
}

const growth = (bytes) => (bytes > 0 ? "+" : "") + size(bytes);
const count = (number) => number.toLocaleString("en");
const counted = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
const percent = (part, whole) => (whole > 0 ? `${((100 * part) / whole).toFixed(part / whole < 0.1 ? 1 : 0)} %` : "0 %");
const when = (text) => (text ? String(text).replace("T", " ").replace(/(\.\d+)?(Z|\+00:00)$/, " UTC") : "");

/** A table: `heads` are texts, those that begin with > stand on the right; `rows` are lists of children. */
function table(heads, rows, caption) {
  const right = heads.map((head) => head.startsWith(">"));
  return make(
    "table", {},
    caption && make("caption", { class: "visually-hidden" }, caption),
    make("thead", {}, make("tr", {}, heads.map((head, at) =>
      make("th", { scope: "col", class: right[at] ? "number" : null }, head.replace(/^>/, ""))))),
    make("tbody", {}, rows.map((cells) =>
      make("tr", {}, cells.map((cell, at) => make("td", { class: right[at] ? "number" : "wide" }, cell))))),
  );
}

/** Rows of which the first few are there, and then a hundred at a time. `row` makes one from its number; printing shows those that are there. */
function longTable(heads, length, row, caption) {
  const step = 100, begin = 12;
  const shown = table(heads, Array.from({ length: Math.min(begin, length) }, (_, at) => row(at)), caption);
  const box = make("div", {}, shown);
  if (length > begin) {
    let done = begin;
    const button = make("button", { class: "quiet", type: "button" });
    const label = () => fill(button, `Show ${Math.min(step, length - done)} more of ${count(length - done)}`);
    label();
    on(button, "click", () => {
      const more = table(heads, Array.from({ length: Math.min(step, length - done) }, (_, at) => row(done + at)));
      shown.tBodies[0].append(...more.tBodies[0].rows);
      done = Math.min(length, done + step);
      if (done >= length) button.parentElement.remove();
      else label();
    });
    box.append(make("div", { class: "more" }, button));
  }
  return box;
}

function section(id, title, note, ...children) {
  return make("section", { id, "aria-labelledby": `${id}-title` },
    make("div", { class: "section-head" }, make("h2", { id: `${id}-title` }, title), note && make("p", {}, note)), children);
}

function stat(name, value, note) {
  return make("div", { class: "stat" }, make("dt", {}, name), make("dd", {}, value, note && make("small", {}, note)));
}

/** The bar on top of the page, with links to its sections and the switch between light and dark. */
function topBar(links) {
  const button = on(make("button", { class: "quiet", type: "button" }), "click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    label();
  });
  const isDark = () => {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  };
  const label = () => fill(button, isDark() ? "Light" : "Dark");
  label();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", label);
  button.setAttribute("aria-label", "Switch between light and dark");
  return make("header", { class: "bar" }, make("div", { class: "bar-inner" },
    make("nav", { "aria-label": "Sections" }, links.map(([id, name]) => make("a", { href: `#${id}` }, name))), button));
}

/** The line at the end of a page. */
function pageFooter() {
  const version = document.querySelector("meta[name=generator]").content;
  return make("footer", {}, `Made by ${version}. This page is one file and loads nothing.`);
}

/** An instruction of a history without what is the same in each of them. */
const tidy = (instruction) => instruction.replace(/^RUN (\|\d+ .*?)?\/bin\/sh -c /, "RUN $1").replace(/ # buildkit$/, "");

function showPage(bar, ...content) {
  document.body.prepend(make("a", { class: "skip", href: "#page" }, "Skip to the content"), bar);
  fill(byId("page"), content);
}

// The files of an image, or what differs between two: nodes in the order of their paths, and rows (file_rows.py).

const FILE = 1, DIRECTORY = 2, SYMLINK = 3;
const KINDS = ["", "file", "directory", "symbolic link", "character device", "block device", "FIFO", ""];
const ADDED = 0, CHANGED = 1, DELETED = 2;
const CHANGE = [
  { sign: "+", name: "added", letter: "A" }, { sign: "~", name: "changed", letter: "C" }, { sign: "−", name: "deleted", letter: "D" },
];
const HARDLINK = 1, CAPABILITY = 2, SHARED = 8;

class Files {
  constructor(columns) {
    Object.assign(this, columns);
    const total = this.depth.length;
    this.length = total;
    this.parent = new Int32Array(total);
    this.end = new Int32Array(total); // the node behind everything in this one
    this.first = new Int32Array(total + 1); // its first row; the next node's first row ends them
    const open = [];
    let row = 0;
    for (let node = 0; node < total; node++) {
      while (open.length && this.depth[open[open.length - 1]] >= this.depth[node]) this.end[open.pop()] = node;
      this.parent[node] = open.length ? open[open.length - 1] : -1;
      open.push(node);
      this.first[node] = row;
      row += this.rows[node];
    }
    for (const node of open) this.end[node] = total;
    this.first[total] = row;
    this.rowCount = row;
    this.owners = this.#owners();
    this.weight = this.size; // what a row counts in sums
    this.search = null;
    this.shown = new Int32Array(total); // the row that the filter chose for a node, or -1
    this.below = new Int32Array(total); // how many nodes in a directory, itself included, have one
    this.bytes = new Float64Array(total); // their bytes
    this.top = new Int32Array(total); // the row of the largest of them, or -1
  }

  isDirectory(node) {
    return this.end[node] > node + 1 || this.kind[this.attribute[this.first[node + 1] - 1]] === DIRECTORY;
  }

  path(node) {
    const parts = [];
    for (let at = node; at >= 0; at = this.parent[at]) parts.push(this.names[at]);
    return "/" + parts.reverse().filter(Boolean).join("/");
  }

  /** Owners as "uid:gid" with the number of their rows, the most frequent first. */
  #owners() {
    const counts = new Float64Array(this.kind.length);
    for (let row = 0; row < this.rowCount; row++) if (this.change[row] !== DELETED) counts[this.attribute[row]]++;
    const owners = new Map();
    counts.forEach((number, at) => {
      const name = `${this.uid[at]}:${this.gid[at]}`;
      if (number) owners.set(name, (owners.get(name) ?? 0) + number);
    });
    return [...owners].sort((one, other) => other[1] - one[1]);
  }

  /** All names in one text, so that a search is one pass; called when there is time, at the latest by the first search. */
  prepareSearch() {
    if (this.search) return;
    this.search = ("\0" + this.names.join("\0")).toLowerCase();
    this.starts = new Int32Array(this.length + 1);
    for (let node = 0, at = 0; node < this.length; node++) {
      this.starts[node] = at + 1;
      at = this.search.indexOf("\0", at + 1);
      if (at < 0) at = this.search.length;
    }
    this.starts[this.length] = this.search.length + 1;
  }

  /** Nodes whose path contains the text, as a byte for each; null for an empty text. */
  #named(text) {
    if (!text) return null;
    const found = new Uint8Array(this.length);
    const parts = text.toLowerCase().replace(/\/+/g, "/").split("/");
    const last = parts[parts.length - 1];
    this.prepareSearch();
    const wanted = parts.length > 1 ? "\0" + last : last;
    for (let at = this.search.indexOf(wanted), node = 0; at >= 0; at = this.search.indexOf(wanted, at + 1)) {
      const place = parts.length > 1 ? at + 1 : at;
      while (this.starts[node + 1] <= place) node++;
      if (parts.length === 1 || this.#under(node, parts)) found[node] = 1;
      at = Math.max(at, this.starts[node + 1] - (parts.length > 1 ? 2 : 1)); // on to the next name
    }
    return found;
  }

  #under(node, parts) {
    let above = this.parent[node];
    for (let at = parts.length - 2; at >= 0; at--) {
      const part = parts[at];
      if (at === 0 && part === "") return above < 0 || this.depth[above] === 0;
      if (above < 0) return false;
      const name = this.names[above].toLowerCase();
      if (at === 0 ? !name.endsWith(part) : name !== part) return false;
      above = this.parent[above];
    }
    return true;
  }

  /**
   * Choose rows. `wanted`: {text, layer, changes: [A, C, D], owner, special, everything}; layer -1 is any, everything
   * also takes what later layers hide. Returns how many nodes there are and their bytes.
   */
  choose(wanted) {
    const named = this.#named(wanted.text);
    const good = this.#goodAttributes(wanted);
    const { first, layer, change, hidden, attribute, copy, shown, below, bytes, top, parent } = this;
    const onlyHidden = wanted.special === "hidden", onlyTwice = wanted.special === "twice", side = this.side ?? wanted.layer;
    const { changes, everything } = wanted;
    const weight = this.weight, growths = this.growths, grown = this.grown;
    grown?.fill(0);
    let files = 0, sum = 0;
    below.fill(0);
    bytes.fill(0);
    top.fill(-1);
    shown.fill(-1);
    for (let node = this.length - 1; node >= 0; node--) {
      if (named === null || named[node]) {
        for (let row = first[node + 1] - 1; row >= first[node]; row--) {
          if (side >= 0 && layer[row] !== side) continue;
          if (!changes[change[row]]) continue;
          if (!everything && (hidden[row] || change[row] === DELETED)) continue;
          if (!good[attribute[row]]) continue;
          if (onlyHidden && !(hidden[row] && change[row] !== DELETED)) continue;
          if (onlyTwice && !copy[row]) continue;
          shown[node] = row;
          break;
        }
      }
      const row = shown[node];
      if (row >= 0) {
        const own = weight[row];
        below[node]++;
        bytes[node] += own;
        if (grown) grown[node] += growths[row];
        files++;
        sum += own;
        if (top[node] < 0 || own > weight[top[node]]) top[node] = row;
      }
      const above = parent[node];
      if (above >= 0 && below[node]) {
        below[above] += below[node];
        bytes[above] += bytes[node];
        if (grown) grown[above] += grown[node];
        if (top[above] < 0 || weight[top[node]] > weight[top[above]]) top[above] = top[node];
      }
    }
    return { files, bytes: sum };
  }

  #goodAttributes({ owner, special, kind }) {
    return Array.from(this.kind, (is, at) => {
      const mode = this.mode[at], flags = this.flags[at];
      if (owner && `${this.uid[at]}:${this.gid[at]}` !== owner) return 0;
      if (special === "setuid" && !(is === FILE && mode & 0o6000)) return 0;
      if (special === "capability" && !(flags & CAPABILITY)) return 0;
      if (special === "writable" && !(mode & 0o002 && is !== SYMLINK && !(is === DIRECTORY && mode & 0o1000))) return 0;
      if (special === "links" && is !== SYMLINK && !(flags & HARDLINK)) return 0;
      if (special === "devices" && !(is >= 4 && is <= 6)) return 0;
      if (special === "files" && is !== FILE) return 0;
      return 1;
    });
  }

  /** The children of a node (or the top ones, for -1) that the filter has left. */
  *children(node) {
    const end = node < 0 ? this.length : this.end[node];
    for (let at = node + 1; at < end; at = this.end[at]) if (this.below[at]) yield at;
  }

  sortedChildren(node, bySize) {
    const found = [...this.children(node)];
    if (bySize) found.sort((one, other) => this.bytes[other] - this.bytes[one] || one - other);
    return found;
  }
}

/** Type and permissions as `ls -l` shows them. */
function modeText(kind, mode) {
  const bits = (shift, special, letter) => {
    const three = (mode >> shift) & 7;
    const x = mode & special ? (three & 1 ? letter : letter.toUpperCase()) : three & 1 ? "x" : "-";
    return (three & 4 ? "r" : "-") + (three & 2 ? "w" : "-") + x;
  };
  return "?-dlcbp?"[kind] + bits(6, 0o4000, "s") + bits(3, 0o2000, "s") + bits(0, 0o1000, "t");
}

// Reads what pybuild/pages/columns.py writes.

/** The head of the page's data and its columns by name. */
async function readData() {
  const element = byId("data");
  const packed = fromBase64(element.textContent);
  element.remove();
  const bytes = await inflated(packed);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = view.getUint32(0, true);
  const text = new TextDecoder();
  const head = JSON.parse(text.decode(bytes.subarray(4, 4 + length)));
  const columns = {};
  let at = 4 + length;
  for (const [name, [kind, ...fields]] of Object.entries(head.columns)) {
    if (kind === "texts") {
      columns[name] = text.decode(bytes.subarray(at, at + fields[0])).split("\0");
      at += fields[0];
    } else {
      const [size, width, smallest] = fields;
      columns[name] = numbers(bytes, at, size, width, smallest);
      at += size * width;
    }
  }
  return { head, columns };
}

/** A column of numbers: an Int32Array if they fit into one, else a Float64Array. */
function numbers(bytes, at, size, width, smallest) {
  const found = width < 4 && smallest >= 0 && smallest < 2 ** 30 ? new Int32Array(size) : new Float64Array(size);
  if (smallest) found.fill(smallest);
  for (let plane = 0, factor = 1; plane < width; plane++, factor *= 256, at += size) {
    for (let index = 0; index < size; index++) found[index] += bytes[at + index] * factor;
  }
  return found;
}

function fromBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let at = 0; at < bytes.length; at++) bytes[at] = binary.charCodeAt(at);
  return bytes;
}

async function inflated(packed) {
  let stream;
  try {
    stream = new DecompressionStream("deflate-raw");
  } catch {
    return inflate(packed); // a browser of before 2023
  }
  return new Uint8Array(await new Response(new Blob([packed]).stream().pipeThrough(stream)).arrayBuffer());
}

// Inflate (RFC 1951), for browsers whose DecompressionStream does not know deflate-raw.

const LENGTHS = [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258];
const LENGTH_BITS = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const DISTANCES = [1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577];
const DISTANCE_BITS = [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13];
const CODE_ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/** The codes of a Huffman tree, from their lengths: how many there are of each length, and the symbols in order. */
function huffman(lengths) {
  const counts = new Uint16Array(16);
  for (const length of lengths) counts[length]++;
  counts[0] = 0;
  const starts = new Uint16Array(16);
  for (let bits = 1; bits < 16; bits++) starts[bits] = starts[bits - 1] + counts[bits - 1];
  const symbols = new Uint16Array(lengths.length);
  lengths.forEach((length, symbol) => {
    if (length) symbols[starts[length]++] = symbol;
  });
  return { counts, symbols };
}

function inflate(packed) {
  let out = new Uint8Array(Math.max(1024, packed.length * 4));
  let size = 0, at = 0, buffer = 0, have = 0;

  function bits(need) {
    while (have < need) {
      if (at >= packed.length) throw new Error("the data of this page is cut off");
      buffer |= packed[at++] << have;
      have += 8;
    }
    const value = buffer & ((1 << need) - 1);
    buffer >>>= need;
    have -= need;
    return value;
  }

  function symbol({ counts, symbols }) {
    let code = 0, first = 0, index = 0;
    for (let length = 1; length < 16; length++) {
      code |= bits(1);
      const number = counts[length];
      if (code - number < first) return symbols[index + code - first];
      index += number;
      first = (first + number) << 1;
      code <<= 1;
    }
    throw new Error("the data of this page is damaged");
  }

  function room(more) {
    if (size + more <= out.length) return;
    const larger = new Uint8Array(Math.max(2 * out.length, size + more));
    larger.set(out.subarray(0, size));
    out = larger;
  }

  function trees() {
    const literals = bits(5) + 257, distances = bits(5) + 1, codes = bits(4) + 4;
    const lengths = new Array(19).fill(0);
    for (let index = 0; index < codes; index++) lengths[CODE_ORDER[index]] = bits(3);
    const tree = huffman(lengths);
    const found = [];
    while (found.length < literals + distances) {
      const code = symbol(tree);
      if (code < 16) found.push(code);
      else {
        const value = code === 16 ? found[found.length - 1] : 0;
        const times = code === 16 ? bits(2) + 3 : code === 17 ? bits(3) + 3 : bits(7) + 11;
        for (let index = 0; index < times; index++) found.push(value);
      }
    }
    return [huffman(found.slice(0, literals)), huffman(found.slice(literals))];
  }

  function block(literals, distances) {
    for (;;) {
      const code = symbol(literals);
      if (code === 256) return;
      if (code < 256) {
        room(1);
        out[size++] = code;
        continue;
      }
      const length = LENGTHS[code - 257] + bits(LENGTH_BITS[code - 257]);
      const back = symbol(distances);
      const distance = DISTANCES[back] + bits(DISTANCE_BITS[back]);
      room(length);
      for (let index = 0; index < length; index++, size++) out[size] = out[size - distance];
    }
  }

  for (let last = 0; !last; ) {
    last = bits(1);
    const kind = bits(2);
    if (kind === 0) {
      buffer = have = 0;
      const length = packed[at] | (packed[at + 1] << 8);
      at += 4;
      room(length);
      out.set(packed.subarray(at, at + length), size);
      size += length;
      at += length;
    } else if (kind === 1) {
      const fixed = Array.from({ length: 288 }, (_, code) => (code < 144 ? 8 : code < 256 ? 9 : code < 280 ? 7 : 8));
      block(huffman(fixed), huffman(new Array(30).fill(5)));
    } else block(...trees());
  }
  return out.subarray(0, size);
}

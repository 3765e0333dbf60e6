// Blocks of ggml's types with random bits, and the numbers that they stand for: written from the definitions
// of ggml-common.h, apart from what is tested with them.

const half = (bits) => {
  const [sign, exponent, fraction] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
};

/** Bytes of a block, numbers in it, where its factors are, and number i of the block at `b`. */
const TYPES = {
  F32: [4, 1, [], (b) => new DataView(b.buffer, b.byteOffset).getFloat32(0, true)],
  F16: [2, 1, [0], (b) => half(b[0] | (b[1] << 8))],
  Q8_0: [34, 32, [0], (b, i) => half(b[0] | (b[1] << 8)) * ((b[2 + i] << 24) >> 24)],
  Q4_0: [18, 32, [0], (b, i) => half(b[0] | (b[1] << 8)) * (nibble(b, 2, i) - 8)],
  Q4_1: [20, 32, [0, 2], (b, i) => half(b[0] | (b[1] << 8)) * nibble(b, 4, i) + half(b[2] | (b[3] << 8))],
  Q4_K: [144, 256, [0, 2], (b, i) => {
    const g = i >> 5;
    const q = b.subarray(4, 16);
    const [scale, minimum] = g < 4 ? [q[g] & 63, q[g + 4] & 63] : [(q[g + 4] & 15) | ((q[g - 4] >> 6) << 4), (q[g + 4] >> 4) | ((q[g] >> 6) << 4)];
    const value = (b[16 + 32 * (g >> 1) + (i & 31)] >> (4 * (g & 1))) & 15;
    return half(b[0] | (b[1] << 8)) * scale * value - half(b[2] | (b[3] << 8)) * minimum;
  }],
  Q6_K: [210, 256, [208], (b, i) => {
    const [n, l, k] = [i >> 7, i & 31, (i >> 5) & 3];
    const low = (b[64 * n + l + 32 * (k & 1)] >> (4 * (k >> 1))) & 15;
    const high = (b[128 + 32 * n + l] >> (2 * k)) & 3;
    const scale = (b[192 + 8 * n + 2 * k + (l >> 4)] << 24) >> 24;
    return half(b[208] | (b[209] << 8)) * scale * ((low | (high << 4)) - 32);
  }],
};

function nibble(block, from, i) {
  return i < 16 ? block[from + i] & 15 : block[from + i - 16] >> 4;
}

/** Blocks with random bits, whose factors are small, for `count` numbers. */
export function blocksOf(type, count) {
  const [size, each, factors, number] = TYPES[type];
  let seed = 12345;
  const random = () => (seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) >>> 24;
  const bytes = Uint8Array.from({ length: (count / each) * size }, random);
  const view = new DataView(bytes.buffer);
  for (let at = 0; at < bytes.length; at += size) {
    if (type === "F32") view.setFloat32(at, random() / 128 - 1, true);
    // Of either sign, from 2^-9 to 2^-6.
    for (const factor of factors) view.setUint16(at + factor, (random() & 128 ? 0x8000 : 0) | ((6 + (random() & 3)) << 10) | (random() << 2), true);
  }
  const numbers = Float64Array.from({ length: count }, (_, index) => {
    const block = Math.floor(index / each);
    return number(bytes.subarray(block * size, (block + 1) * size), index % each);
  });
  return { bytes, numbers };
}

// What the graphics processor computes, in WGSL. Weights stay as they are stored: groups of 32 values are
// dequantized in registers where they are used. All sums are of 32-bit floats, in an order of their own.

/** What is done with four values at `index`, counted in fours, of a group. */
type Put = (index: string, values: string) => string;

/** A type of weights: bytes and groups of a block of them, and what is done with the numbers of a group. */
interface Format {
  readonly bytes: number;
  readonly groups: number;
  /** Statements for group `g` of the block whose first byte is `at`. */
  readonly each: (put: Put) => string;
}

/** The lower halves of the four bytes of a word as numbers. */
const four = (word: string) => `vec4f(vec4u(${word}, ${word} >> 8u, ${word} >> 16u, ${word} >> 24u) & vec4u(15u))`;
/** A signed byte as a number. */
const signed = (byte: string) => `f32(extractBits(bitcast<i32>(${byte}), 0u, 8u))`;
/** Groups of 16 bytes with two values each, of which the upper ones follow the lower ones. */
const halves = (begin: string, put: Put, value: (nibbles: string) => string) =>
  `for (var i = 0u; i < 4u; i++) { let w = word(${begin} + 4u * i); ${put("i", value(four("w")))} let h = w >> 4u; ${put("i + 4u", value(four("h")))} }`;

/** The types that have kernels, by ggml's names (ggml-common.h has their blocks). */
export const FORMATS: Readonly<Record<string, Format>> = {
  F32: {
    bytes: 128,
    groups: 1,
    each: (put) => `for (var i = 0u; i < 8u; i++) { let w = at / 4u + 4u * i; ${put("i", "bitcast<vec4f>(vec4u(weights[w], weights[w + 1u], weights[w + 2u], weights[w + 3u]))")} }`,
  },
  F16: {
    bytes: 64,
    groups: 1,
    each: (put) => `for (var i = 0u; i < 8u; i++) { let w = at / 4u + 2u * i; ${put("i", "vec4f(unpack2x16float(weights[w]), unpack2x16float(weights[w + 1u]))")} }`,
  },
  Q8_0: {
    bytes: 34,
    groups: 1,
    each: (put) => `let d = float16(at);
      for (var i = 0u; i < 8u; i++) { let w = bitcast<i32>(word(at + 2u + 4u * i)); ${put("i", "d * vec4f(vec4i(w << 24u, w << 16u, w << 8u, w) >> vec4u(24u))")} }`,
  },
  Q4_0: { bytes: 18, groups: 1, each: (put) => `let d = float16(at); ${halves("at + 2u", put, (it) => `d * (${it} - 8.0)`)}` },
  Q4_1: { bytes: 20, groups: 1, each: (put) => `let d = float16(at); let m = float16(at + 2u); ${halves("at + 4u", put, (it) => `d * ${it} + m`)}` },
  Q4_K: {
    bytes: 144,
    groups: 8,
    each: (put) => `var scale = byte(at + 4u + g) & 63u;
      var minimum = byte(at + 8u + g) & 63u;
      if (g >= 4u) {
        scale = (byte(at + 8u + g) & 15u) | ((byte(at + g) >> 6u) << 4u);
        minimum = (byte(at + 8u + g) >> 4u) | ((byte(at + 4u + g) >> 6u) << 4u);
      }
      let d = float16(at) * f32(scale);
      let m = float16(at + 2u) * f32(minimum);
      for (var i = 0u; i < 8u; i++) { let w = word(at + 16u + 32u * (g / 2u) + 4u * i) >> (4u * (g & 1u)); ${put("i", `d * ${four("w")} - m`)} }`,
  },
  Q6_K: {
    bytes: 210,
    groups: 8,
    each: (put) => `let n = g / 4u;
      let k = g & 3u;
      let d = float16(at + 208u);
      let scales = at + 192u + 8u * n + 2u * k;
      let both = d * vec2f(${signed("byte(scales)")}, ${signed("byte(scales + 1u)")});
      for (var i = 0u; i < 8u; i++) {
        let low = word(at + 64u * n + 32u * (k & 1u) + 4u * i) >> (4u * (k / 2u));
        let high = word(at + 128u + 32u * n + 4u * i) >> (2u * k);
        let w = (low & 0x0f0f0f0fu) | ((high & 0x03030303u) << 4u);
        ${put("i", "select(both.y, both.x, i < 4u) * (vec4f(vec4u(w, w >> 8u, w >> 16u, w >> 24u) & vec4u(63u)) - 32.0)")}
      }`,
  },
};

/** Threads that share a sum. */
const LANES = 32;
/** Rows of a matrix in one dimension of a dispatch, which has at most 65,535. */
export const WIDE = 32_768;

const reduce = (operation: string) => `
fn total(lane: u32, own: f32) -> f32 {
  sums[lane] = own;
  workgroupBarrier();
  for (var step = ${LANES / 2}u; step > 0u; step /= 2u) {
    if (lane < step) { let a = sums[lane]; let b = sums[lane + step]; sums[lane] = ${operation}; }
    workgroupBarrier();
  }
  return sums[0];
}`;

const STORED = `
@group(0) @binding(0) var<storage, read> weights: array<u32>;
fn word(at: u32) -> u32 {
  let shift = 8u * (at & 3u);
  let low = weights[at / 4u] >> shift;
  if (shift == 0u) { return low; }
  return low | (weights[at / 4u + 1u] << (32u - shift));
}
fn byte(at: u32) -> u32 { return (weights[at / 4u] >> (8u * (at & 3u))) & 255u; }
fn float16(at: u32) -> f32 { return unpack2x16float(byte(at) | (byte(at + 1u) << 8u)).x; }
struct Shape { cols: u32, rows: u32, first: u32, stride: u32 }
@group(0) @binding(3) var<uniform> shape: Shape;`;

/** Rows of a matrix, multiplied by columns: `y[column][first + row]`. */
export const product = ({ bytes, groups, each }: Format) => `${STORED}
@group(0) @binding(1) var<storage, read> x: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
var<workgroup> sums: array<f32, ${LANES}>;
${reduce("a + b")}
@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) id: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = id.x + id.y * ${WIDE}u;
  let groups = shape.cols / 32u;
  var sum = 0.0;
  if (row < shape.rows) {
    for (var piece = lane; piece < groups; piece += ${LANES}u) {
      let index = row * groups + piece;
      let at = (index / ${groups}u) * ${bytes}u;
      let g = index % ${groups}u;
      let column = id.z * shape.cols / 4u + piece * 8u;
      ${each((index, values) => `sum += dot(${values}, x[column + ${index}]);`)}
    }
  }
  let all = total(lane, sum);
  if (lane == 0u && row < shape.rows) { y[id.z * shape.stride + shape.first + row] = all; }
}`;

/** Rows of the embedding: `y[n]` is the row of token n, if it is among these rows. */
export const lookup = ({ bytes, groups, each }: Format) => `${STORED}
@group(0) @binding(1) var<storage, read> tokens: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4f>;
@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) id: vec3u, @builtin(local_invocation_index) lane: u32) {
  let token = tokens[id.x];
  if (token < shape.first || token - shape.first >= shape.rows) { return; }
  let groups = shape.cols / 32u;
  for (var piece = lane; piece < groups; piece += ${LANES}u) {
    let index = (token - shape.first) * groups + piece;
    let at = (index / ${groups}u) * ${bytes}u;
    let g = index % ${groups}u;
    let column = id.x * shape.cols / 4u + piece * 8u;
    ${each((index, values) => `y[column + ${index}] = ${values};`)}
  }
}`;

/** `y` is `x` divided by the root of its mean square, times a weight; a row for each workgroup. */
export const norm = (dim: number, epsilon: number) => `
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
var<workgroup> sums: array<f32, ${LANES}>;
${reduce("a + b")}
@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) id: vec3u, @builtin(local_invocation_index) lane: u32) {
  let begin = id.x * ${dim}u;
  var sum = 0.0;
  for (var i = lane; i < ${dim}u; i += ${LANES}u) { sum += x[begin + i] * x[begin + i]; }
  let factor = 1.0 / sqrt(total(lane, sum) / ${float(dim)} + ${float(epsilon)});
  for (var i = lane; i < ${dim}u; i += ${LANES}u) { y[begin + i] = x[begin + i] * factor * weight[i]; }
}`;

/** Turns pairs of all heads of a row, in place; `turns[row][pair]` are cosines and sines. */
export const rotate = (heads: number, headDim: number, ropeDim: number, halves: boolean) => `
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read> turns: array<vec2f>;
@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) id: vec3u, @builtin(local_invocation_index) lane: u32) {
  for (var at = lane; at < ${(heads * ropeDim) / 2}u; at += ${LANES}u) {
    let pair = at % ${ropeDim / 2}u;
    let head = (id.x * ${heads}u + at / ${ropeDim / 2}u) * ${headDim}u;
    let a = head + ${halves ? "pair" : "2u * pair"};
    let b = ${halves ? `a + ${ropeDim / 2}u` : "a + 1u"};
    let turn = turns[id.x * ${ropeDim / 2}u + pair];
    let p = x[a];
    let q = x[b];
    x[a] = p * turn.x - q * turn.y;
    x[b] = p * turn.y + q * turn.x;
  }
}`;

/** What each head of each row sees of the positions up to its own. */
export const attention = (heads: number, kvHeads: number, headDim: number, context: number, scale: number) => `
@group(0) @binding(0) var<storage, read> queries: array<f32>;
@group(0) @binding(1) var<storage, read> keys: array<f32>;
@group(0) @binding(2) var<storage, read> values: array<f32>;
@group(0) @binding(3) var<storage, read_write> scores: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<uniform> first: vec4u;
var<workgroup> sums: array<f32, ${LANES}>;
${reduce("a + b")}
${reduce("max(a, b)").replace("fn total", "fn highest")}
@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) id: vec3u, @builtin(local_invocation_index) lane: u32) {
  let seen = first.x + id.y + 1u;
  let query = (id.y * ${heads}u + id.x) * ${headDim}u;
  let head = (id.x / ${heads / kvHeads}u) * ${headDim}u;
  let own = (id.y * ${heads}u + id.x) * ${context}u;
  var high = -3.4e38;
  for (var p = lane; p < seen; p += ${LANES}u) {
    var sum = 0.0;
    for (var i = 0u; i < ${headDim}u; i++) { sum += queries[query + i] * keys[p * ${kvHeads * headDim}u + head + i]; }
    scores[own + p] = sum * ${float(scale)};
    high = max(high, scores[own + p]);
  }
  let most = highest(lane, high);
  workgroupBarrier();
  var sum = 0.0;
  for (var p = lane; p < seen; p += ${LANES}u) { let e = exp(scores[own + p] - most); scores[own + p] = e; sum += e; }
  let all = total(lane, sum);
  storageBarrier();
  workgroupBarrier();
  for (var i = lane; i < ${headDim}u; i += ${LANES}u) {
    var mixed = 0.0;
    for (var p = 0u; p < seen; p++) { mixed += scores[own + p] * values[p * ${kvHeads * headDim}u + head + i]; }
    y[query + i] = mixed / all;
  }
}`;

const each = (work: string) => `
@group(0) @binding(0) var<storage, read_write> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) id: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = id.x * ${LANES}u + lane;
  if (i < arrayLength(&a) && i < arrayLength(&b)) { ${work} }
}`;

/** `a` becomes `a + b`. */
export const add = each("a[i] += b[i];");
/** `a` becomes `silu(a) * b`. */
export const gate = each("a[i] = a[i] / (1.0 + exp(-a[i])) * b[i];");

/** Workgroups for a number of elements. */
export const groupsFor = (numbers: number) => Math.ceil(numbers / LANES);

/** A number as WGSL has it. */
function float(number: number): string {
  const text = String(Math.fround(number));
  return /[.e]/.test(text) ? text : `${text}.0`;
}

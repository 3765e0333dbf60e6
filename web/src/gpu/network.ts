// A whole network on the graphics processor, for networks of the plain graph of Llama. Weights are uploaded
// once. Results are within a tolerance of those of the guest, and not the same bits: sums are of 32-bit
// floats in another order, and activations are not quantized.

import { PolychordError } from "../errors.js";
import type { Executor } from "../executor.js";
import type { Model } from "../model/model.js";
import type { Placement } from "../placement.js";
import type { Source } from "../source.js";
import { Device, USAGE, type Matrix, type Step, type StoredTensor } from "./device.js";
import { add, attention, gate, groupsFor, norm, rotate } from "./kernels.js";

/** What the crate says about such a network. */
interface PlainNetwork {
  readonly dim: number;
  readonly vocab: number;
  readonly blocks: number;
  readonly epsilon: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly ffn: number;
  readonly scale: number;
  readonly rope: { dim: number; base: number; scale: number; magnitude: number; halves: boolean; factors: boolean };
  readonly tied: boolean;
  readonly tensors: Readonly<Record<string, StoredTensor>>;
}

/** Most rows of a batch: scores of all of them are in one buffer. */
const MOST_ROWS = 16;

/** What a network has on the device. */
interface Parts {
  readonly tokens: GPUBuffer;
  /** Cosines and sines of the rows of a batch. */
  readonly turns: GPUBuffer;
  /** The position of the first of them. */
  readonly first: GPUBuffer;
  readonly hidden: GPUBuffer;
  /** The row whose logits are wanted. */
  readonly last: GPUBuffer;
  readonly logits: GPUBuffer;
  readonly readable: GPUBuffer;
  /** From tokens to the hidden state behind the last block, of a batch whose first row has this position. */
  readonly body: (rows: number, position: number) => Step[];
  /** From that row to logits. */
  readonly head: readonly Step[];
}

/** A network on the graphics processor. */
export class GpuNetwork implements Executor {
  private latest: Uint8Array<ArrayBuffer> = new Uint8Array(0);

  private constructor(
    private readonly device: Device,
    private readonly shape: PlainNetwork,
    private readonly batch: number,
    private readonly frequencies: readonly number[],
    private readonly parts: Parts,
  ) {}

  /** What it runs on. */
  get name(): string {
    return this.device.name;
  }

  /** Uploads all weights. */
  static async start(model: Model, placement: Placement, source: Source, took?: (bytes: Uint8Array) => void): Promise<GpuNetwork> {
    let shape: PlainNetwork;
    try {
      shape = JSON.parse(model.plainNetwork()) as PlainNetwork;
    } catch (error) {
      throw new PolychordError("unsupported", error instanceof Error ? error.message : String(error), { cause: error });
    }
    const device = await Device.open();
    try {
      const batch = Math.min(placement.batch, MOST_ROWS);
      const frequencies = await frequenciesOf(shape, source);
      return new GpuNetwork(device, shape, batch, frequencies, await build(device, shape, batch, placement.context, source, took));
    } catch (error) {
      device.close();
      throw error;
    }
  }

  async eval(tokens: readonly number[], position: number, wanted: "logits" | "cache", _unfinished: boolean, check?: () => Promise<void>): Promise<void> {
    const wrong = tokens.find((token) => token >= this.shape.vocab);
    if (wrong !== undefined) throw new PolychordError("guest", `token ${wrong} is not in the vocabulary of ${this.shape.vocab}`);
    const { queue } = this.device.gpu;
    const { parts } = this;
    for (let start = 0; start < tokens.length; start += this.batch) {
      await check?.();
      const part = tokens.slice(start, start + this.batch);
      const at = position + start;
      queue.writeBuffer(parts.tokens, 0, Uint32Array.from(part));
      queue.writeBuffer(parts.turns, 0, this.turnsOf(at, part.length));
      queue.writeBuffer(parts.first, 0, Uint32Array.of(at, 0, 0, 0));
      const isLast = start + part.length === tokens.length;
      await this.device.run(parts.body(part.length, at), part.length);
      if (!isLast || wanted === "cache") continue;
      const bytes = this.shape.dim * 4;
      const row: Step = { kind: "copy", from: parts.hidden, start: (part.length - 1) * bytes, to: parts.last, at: 0, bytes };
      const logits = await this.device.run([row, ...parts.head], 1, { from: parts.logits, to: parts.readable });
      this.latest = new Uint8Array(logits!);
    }
  }

  logits(): Uint8Array<ArrayBuffer> {
    return this.latest;
  }

  memoryBytes(): number[][] {
    return [[this.device.bytes]];
  }

  pagerStats(): [] {
    return [];
  }

  close(): void {
    this.device.close();
  }

  /** Cosines and sines of rows, whose angles are of 64-bit floats. */
  private turnsOf(position: number, rows: number): Float32Array<ArrayBuffer> {
    const { scale, magnitude } = this.shape.rope;
    const turns = new Float32Array(rows * this.frequencies.length * 2);
    for (let row = 0, at = 0; row < rows; row += 1) {
      for (const frequency of this.frequencies) {
        const angle = (position + row) * scale * frequency;
        turns[at++] = Math.cos(angle) * magnitude;
        turns[at++] = Math.sin(angle) * magnitude;
      }
    }
    return turns;
  }
}

/** The angle of each pair from one position to the next. */
async function frequenciesOf(shape: PlainNetwork, source: Source): Promise<number[]> {
  const { dim, base, factors } = shape.rope;
  const all = Array.from({ length: dim / 2 }, (_, pair) => base ** ((-2 * pair) / dim));
  if (!factors) return all;
  const divisors = await floats(shape, "rope_freqs.weight", source);
  if (divisors.length < all.length || divisors.some((it) => !(it > 0))) throw new PolychordError("file", "rope_freqs.weight is damaged");
  return all.map((frequency, pair) => frequency / divisors[pair]!);
}

/** A tensor of 32-bit floats. */
async function floats(shape: PlainNetwork, name: string, source: Source): Promise<Float32Array<ArrayBuffer>> {
  const tensor = tensorOf(shape, name);
  if (tensor.type !== "F32") throw new PolychordError("unsupported", `${name} is of type ${tensor.type}, and WebGPU takes F32 here: use the guest`);
  const bytes = new Uint8Array(tensor.bytes);
  await source.read(tensor.start, bytes);
  return new Float32Array(bytes.buffer);
}

function tensorOf(shape: PlainNetwork, name: string): StoredTensor {
  const tensor = shape.tensors[name];
  if (!tensor) throw new PolychordError("file", `the model has no tensor ${name}`);
  return tensor;
}

async function build(device: Device, shape: PlainNetwork, batch: number, context: number, source: Source, took?: (bytes: Uint8Array) => void): Promise<Parts> {
  const { dim, heads, kvHeads, headDim, ffn, rope, vocab } = shape;
  const [width, kvWidth] = [heads * headDim, kvHeads * headDim];
  const rowsOf = (columns: number) => device.buffer(batch * columns * 4);
  const upload = (name: string): Promise<Matrix> => device.matrix(source, tensorOf(shape, `${name}.weight`), took);
  const weights = async (name: string) => device.filled(await floats(shape, `${name}.weight`, source));

  const [hidden, normed, queries, keys, values, mixed] = [rowsOf(dim), rowsOf(dim), rowsOf(width), rowsOf(kvWidth), rowsOf(kvWidth), rowsOf(width)];
  const [added, gates, ups] = [rowsOf(dim), rowsOf(ffn), rowsOf(ffn)];
  const scores = device.buffer(batch * heads * context * 4);
  const [tokens, turns] = [device.buffer(batch * 4), device.buffer(batch * rope.dim * 4)];
  const first = device.buffer(16, USAGE.UNIFORM | USAGE.COPY_DST);
  const [last, lastNormed, logits] = [device.buffer(dim * 4), device.buffer(dim * 4), device.buffer(vocab * 4)];
  const readable = device.buffer(vocab * 4, USAGE.MAP_READ | USAGE.COPY_DST);

  const normPipeline = device.pipeline(norm(dim, shape.epsilon));
  const one = (rows: number): [number, number, number] => [rows, 1, 1];
  const normed1 = (x: GPUBuffer, weight: GPUBuffer, y: GPUBuffer) => device.step(normPipeline, [x, weight, y], one);
  const turn = (x: GPUBuffer, of: number) => device.step(device.pipeline(rotate(of, headDim, rope.dim, rope.halves)), [x, turns], one);
  const elements = (code: string, columns: number, a: GPUBuffer, b: GPUBuffer) => {
    // At most 65,535 workgroups, and what is behind the rows of a batch is of no use.
    const step = device.step(device.pipeline(code), [a, b], (rows) => [Math.min(groupsFor(rows * columns), 65_535), 1, 1]);
    if (groupsFor(batch * columns) > 65_535) throw new PolychordError("unsupported", `rows of ${columns} are too wide for WebGPU here: use the guest`);
    return step;
  };
  const attend = device.pipeline(attention(heads, kvHeads, headDim, context, shape.scale));

  const embedding = await upload("token_embd");
  const before = device.lookup(embedding, tokens, hidden);
  const blocks: { steps: Step[]; rest: Step[]; caches: [GPUBuffer, GPUBuffer] }[] = [];
  for (let block = 0; block < shape.blocks; block += 1) {
    const name = (part: string) => `blk.${block}.${part}`;
    const caches: [GPUBuffer, GPUBuffer] = [device.buffer(context * kvWidth * 4), device.buffer(context * kvWidth * 4)];
    const steps = [
      normed1(hidden, await weights(name("attn_norm")), normed),
      ...device.multiply(await upload(name("attn_q")), normed, queries),
      ...device.multiply(await upload(name("attn_k")), normed, keys),
      ...device.multiply(await upload(name("attn_v")), normed, values),
      turn(queries, heads),
      turn(keys, kvHeads),
    ];
    const rest = [
      device.step(attend, [queries, ...caches, scores, mixed, first], (rows) => [heads, rows, 1]),
      ...device.multiply(await upload(name("attn_output")), mixed, added),
      elements(add, dim, hidden, added),
      normed1(hidden, await weights(name("ffn_norm")), normed),
      ...device.multiply(await upload(name("ffn_gate")), normed, gates),
      ...device.multiply(await upload(name("ffn_up")), normed, ups),
      elements(gate, ffn, gates, ups),
      ...device.multiply(await upload(name("ffn_down")), gates, added),
      elements(add, dim, hidden, added),
    ];
    blocks.push({ steps, rest, caches });
  }
  const head = [
    normed1(last, await weights("output_norm"), lastNormed),
    ...device.multiply(shape.tied ? embedding : await upload("output"), lastNormed, logits),
  ];
  const body = (rows: number, position: number): Step[] => [
    ...before,
    ...blocks.flatMap(({ steps, rest, caches }) => {
      const keep = (from: GPUBuffer, to: GPUBuffer): Step => ({ kind: "copy", from, start: 0, to, at: position * kvWidth * 4, bytes: rows * kvWidth * 4 });
      return [...steps, keep(keys, caches[0]), keep(values, caches[1]), ...rest];
    }),
  ];
  return { tokens, turns, first, hidden, last, logits, readable, body, head };
}

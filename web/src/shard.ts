// One guest with the layers that it holds, and the stages that it computes.

import { PolychordError, explainStatus } from "./errors.js";
import { layerImports, type Host } from "./imports.js";
import { Layers, type FileRange, type LayerPlace } from "./layers.js";
import { LinearMemory, Space } from "./memories.js";
import type { Model, Placed } from "./model/model.js";
import { Pager, type PagerStats } from "./pager.js";
import type { Placement, PlacedLayer } from "./placement.js";
import type { RankMember } from "./ranks.js";
import type { Source } from "./source.js";

/** What all guests of a rank have in common. */
export interface Setup {
  readonly module: WebAssembly.Module;
  readonly model: Model;
  readonly placed: Placed;
  readonly placement: Placement;
  readonly source: Source;
  readonly rank?: RankMember;
  /** Version of the contract of host and guest. */
  readonly version: number;
  /** Told of weights as they come in. */
  readonly loaded?: (bytes: Uint8Array, start: number) => void;
}

/** What of a layer a rank computes with: rows of others stay zeros, for which systems have no memory. */
export function partsOf(model: Model, layer: LayerPlace, rank: number, ranks: number): FileRange[] {
  if (ranks === 1) return [layer];
  const numbers = model.partsOfRank(layer.start, layer.bytes, rank, ranks);
  return Array.from({ length: numbers.length / 2 }, (_, index) => ({ start: numbers[2 * index]!, bytes: numbers[2 * index + 1]! }));
}

/** One guest of a placement. */
export class Shard {
  private readonly host: Host;
  private readonly exports: Record<string, (...args: (number | bigint)[]) => number | bigint>;
  private readonly memory: LinearMemory;
  private readonly is64: boolean;
  private pager: Pager | undefined;
  private paged: readonly PlacedLayer[] = [];
  private tokens = 0;
  private hiddenAt = 0;
  private carriedAt = 0;
  private logitsAt = 0;

  private constructor(
    private readonly setup: Setup,
    private readonly index: number,
  ) {
    const { module, rank, placement } = setup;
    this.is64 = placement.build === "wasm64";
    let host: Host | undefined;
    const env = layerImports(() => host!);
    const { exports } = new WebAssembly.Instance(module, { env } as unknown as WebAssembly.Imports);
    // The guest's own memory is the first that it exports; others follow in the module's order.
    const memories = WebAssembly.Module.exports(module).filter((it) => it.kind === "memory");
    const linear = memories.map(({ name }) => new LinearMemory(exports[name] as WebAssembly.Memory, this.is64));
    this.memory = linear[0]!;
    this.exports = exports as typeof this.exports;
    this.host = host = { layers: new Layers(new Space(linear), setup.source) };
    if (rank) this.host.rank = rank;
    this.blocks = placement.guests[index]!.blocks;
  }

  /** The blocks that it computes. */
  readonly blocks: readonly [number, number];

  /** Starts a guest, and makes its memories; layers come in by `load`. */
  static start(setup: Setup, index: number): Shard {
    const shard = new Shard(setup, index);
    const found = shard.call("transformer_version");
    if (found !== setup.version) {
      throw new PolychordError("guest", `the guest has version ${found} of the contract, and this host ${setup.version}`);
    }
    return shard;
  }

  /** Makes the memories, brings layers in, and initializes the guest. */
  async load(): Promise<void> {
    const { placement, placed, model, rank, loaded } = this.setup;
    const { layers } = this.host;
    let cache = 0n;
    const wanted: number[] = [];
    for (const memory of placement.guests[this.index]!.memories) {
      const region = layers.space.reserve(memory.bytes);
      if (memory.isCache) {
        cache = layers.space.address(region, 0);
      } else if (memory.paged) {
        this.pager = new Pager(layers, region, memory.layers);
        this.paged = memory.layers;
      } else {
        memory.layers.forEach((layer) => layers.register(layer, region, partsOf(model, layer, rank?.index ?? 0, rank?.count ?? 1)));
        wanted.push(...memory.layers.map((layer) => layer.id));
      }
    }
    // Several at once, in the order of the file.
    wanted.sort((a, b) => layers.layer(a).start - layers.layer(b).start);
    const next = async () => {
      for (let id = wanted.shift(); id !== undefined; id = wanted.shift()) await layers.load(id, loaded);
    };
    await Promise.all(Array.from({ length: this.setup.source.parallel ?? 1 }, next));
    this.initialize(placed.descriptor(model, this.index, cache, rank?.index ?? 0, rank?.count ?? 1));
  }

  private initialize(descriptor: Uint8Array): void {
    const { batch, dim, carried, vocab } = this.setup.placement;
    const at = this.pointer("transformer_alloc", descriptor.byteLength, this.address(descriptor.byteLength));
    this.memory.view(at, descriptor.byteLength).set(descriptor);
    this.status("transformer_init", this.address(at), this.address(descriptor.byteLength));
    this.tokens = this.pointer("transformer_tokens", batch * 4);
    this.hiddenAt = this.pointer("transformer_hidden", batch * dim * 4);
    if (carried > 0) this.carriedAt = this.pointer("transformer_carried", batch * carried * 4);
    this.logitsAt = this.pointer("transformer_logits", vocab * 4);
  }

  /** Makes the guest usable after a call that was stopped; its cache keeps `position` positions. */
  restart(position: number): void {
    this.status("transformer_restart", position);
  }

  /** Hidden state of tokens, as many as a batch has. */
  async embed(tokens: readonly number[]): Promise<void> {
    const bytes = this.memory.view(this.tokens, tokens.length * 4);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    tokens.forEach((token, index) => view.setUint32(index * 4, token, true));
    if (this.pager) await this.pager.require(this.paged.filter((it) => it.part === "embedding"));
    this.status("transformer_embed", tokens.length);
  }

  /** Gets the hidden state of tokens whose rows of the embedding other ranks have, and gives them that of its own. */
  shareRows(tokens: readonly number[]): void {
    const { model, placement, rank } = this.setup;
    if (!rank || rank.count === 1 || !model.dividesEmbedding()) return;
    const rows = this.hidden(tokens.length);
    const [size, width] = [rows.byteLength, placement.dim * 4];
    const all = new Uint8Array(size * rank.count);
    all.set(rows, rank.index * size);
    rank.allGather(() => all, BigInt(size));
    const part = Math.ceil(placement.vocab / rank.count);
    tokens.forEach((token, row) => {
      const at = Math.floor(token / part) * size + row * width;
      rows.set(all.subarray(at, at + width), row * width);
    });
  }

  /** Runs all blocks of this guest over the first rows of the hidden state. */
  async run(position: number, rows: number): Promise<void> {
    const [first, end] = this.blocks;
    if (!this.pager) return this.status("transformer_blocks", first, end - first, position, rows);
    for (let block = first; block < end; block += 1) {
      await this.pager.require(this.paged.filter((it) => it.part === block || it.part === "rope"));
      this.status("transformer_blocks", block, 1, position, rows);
    }
  }

  /** Computes the logits of one row. */
  async head(row: number): Promise<void> {
    const needed = (it: PlacedLayer) => it.part === "output" || (this.setup.placement.tied && it.part === "embedding");
    if (this.pager) await this.pager.require(this.paged.filter(needed));
    this.status("transformer_head", row);
  }

  /** The first rows of the hidden state, as bytes. */
  private hidden(rows: number): Uint8Array {
    return this.memory.view(this.hiddenAt, rows * this.setup.placement.dim * 4);
  }

  /** Takes rows of the hidden state of another guest, and what goes with them. */
  takeRows(from: Shard, rows: number): void {
    this.hidden(rows).set(from.hidden(rows));
    if (this.setup.placement.carried > 0) this.carried(rows).set(from.carried(rows));
  }

  /** What the embedding has made for blocks beside the hidden state, of the first rows. */
  private carried(rows: number): Uint8Array {
    return this.memory.view(this.carriedAt, rows * this.setup.placement.carried * 4);
  }

  /** The logits that were computed last, as bytes, until the next call. */
  logits(): Uint8Array<ArrayBuffer> {
    return this.memory.view(this.logitsAt, this.setup.placement.vocab * 4);
  }

  /** Bytes of each of the guest's linear memories. */
  memoryBytes(): number[] {
    return this.host.layers.space.linear.map((memory) => memory.bytes);
  }

  /** What the pager did, if there is one. */
  pagerStats(): PagerStats | undefined {
    return this.pager?.stats;
  }

  /** Calls an export of that name. */
  call(name: string, ...args: (number | bigint)[]): number {
    const result = this.exports[name];
    if (typeof result !== "function") throw new PolychordError("guest", `the guest exports no ${name}`);
    return Number(result(...args));
  }

  private address(number: number): number | bigint {
    return this.is64 ? BigInt(number) : number;
  }

  private pointer(name: string, bytes: number, ...args: (number | bigint)[]): number {
    const number = this.call(name, ...args);
    const at = this.is64 ? number : number >>> 0;
    if (at === 0 && name === "transformer_alloc") throw this.refused(name, -105);
    if (at === 0 || at < 0 || at + bytes > this.memory.bytes) {
      throw new PolychordError("guest", `${name}: its result is not in its memory, so it is no transformer guest`);
    }
    return at;
  }

  private status(name: string, ...args: (number | bigint)[]): void {
    delete this.host.lastRefusal;
    const status = this.call(name, ...args);
    if (status !== 0) throw this.refused(name, status);
  }

  private refused(name: string, status: number): PolychordError {
    const kind = status === -105 ? "memory" : status === -112 ? "ranks" : status === -111 ? "file" : "guest";
    return new PolychordError(kind, `the guest refused ${name}: ${explainStatus(status, this.host.lastRefusal)} (${status})`);
  }
}

// A model in guests, and the sequence of tokens that it has seen.

import { compileGuest, initModel } from "./assets.js";
import { capabilities, choose, type Capabilities } from "./capabilities.js";
import { PolychordError } from "./errors.js";
import type { Executor } from "./executor.js";
import { GpuNetwork } from "./gpu/network.js";
import { type Model, type Placed, Sampler, Sha256, Text, place as placeModel } from "./model/model.js";
import { type Parts, openWhole } from "./parts.js";
import type { PagerStats } from "./pager.js";
import type { PlaceOptions, Placement } from "./placement.js";
import { RankMember } from "./ranks.js";
import { Shard, partsOf, type Setup } from "./shard.js";
import type { Source } from "./source.js";

/** Weights on their way. */
export interface Progress {
  readonly loaded: number;
  readonly total: number;
}

/** What a session is to be like. */
export interface SessionOptions extends PlaceOptions {
  /** Whether the guest uses relaxed SIMD; by default where that is right. */
  flavor?: "auto" | "plain" | "relaxed";
  /**
   * What computes: the guest, with the bits of all engines, or WebGPU, for networks of Llama's graph, with
   * results within a tolerance (docs/browser.md).
   */
  executor?: "guest" | "webgpu";
  /** How many workers compute together. */
  ranks?: number;
  /** How a worker for another rank is started; Node and pages have one each. */
  startRank?: (start: RankStart, signal: AbortSignal) => Promise<OtherRank>;
  /** What the host has, in place of what was measured. */
  host?: { memory32Bytes?: number; memory64Bytes?: number; multiMemory?: boolean; totalBytes?: number };
  progress?: (progress: Progress) => void;
  signal?: AbortSignal;
  /** Where the other parts are of a model that is split over several files. */
  parts?: Parts;
}

/** What another rank is started with; all of it can be sent to a worker. */
export interface RankStart {
  readonly index: number;
  readonly count: number;
  readonly shared: SharedArrayBuffer;
  readonly module: WebAssembly.Module;
  readonly options: string;
}

/** A rank in another worker. */
export interface OtherRank {
  /** Computes tokens; together with the others. */
  eval(tokens: readonly number[], position: number, wanted: Wanted, unfinished: boolean): Promise<void>;
  close(): void;
}

/** Whether logits are wanted, or only keys and values. */
export type Wanted = "logits" | "cache";

/** What a model file says about itself. */
export interface ModelInfo {
  readonly name: string | null;
  readonly architecture: string | null;
  readonly blocks: number;
  readonly dim: number;
  readonly vocab: number;
  readonly contextLength: number;
  readonly heads: number;
  readonly fileBytes: number;
  readonly headerBytes: number;
  readonly weightBytes: number;
  /** Whether it has a vocabulary: else there are tokens, and no text. */
  readonly vocabulary: boolean;
  /** Whether it has a template for conversations. */
  readonly chat: boolean;
}

/** One turn of a conversation. */
export interface Message {
  role: string;
  content: string;
}

/** How tokens are chosen. */
export interface Sampling {
  temperature?: number;
  top_k?: number;
  top_p?: number;
  repeat_penalty?: number;
  repeat_last_n?: number;
  seed?: number;
}

/** What is generated, and how. */
export interface GenerateOptions {
  maxTokens?: number;
  sampling?: Sampling;
  /** Whether all logits are hashed, as `polychord compare` does it. */
  hash?: boolean;
  signal?: AbortSignal;
  /** Waited for between tokens and between batches, so that others get their turn. */
  pause?: () => Promise<void>;
}

/** One generated token. */
export interface Token {
  readonly id: number;
  /** The text that is complete with it. */
  readonly text: string;
  readonly isEnd: boolean;
}

/** How a generation went. */
export interface Outcome {
  readonly ids: number[];
  readonly text: string;
  readonly finish: "end" | "maxTokens" | "contextFull" | "cancelled";
  /** SHA-256 of all logits, if it was asked for. */
  readonly hash: string | undefined;
  readonly promptTokens: number;
  readonly promptMilliseconds: number;
  readonly decodeMilliseconds: number;
}

/** More than any sequence has: what guests have kept is of no use. */
const MOST_POSITIONS = 0xffff_ffff;
/** The guests of one rank, and the way of a batch through them. */
export class Pipeline implements Executor {
  private constructor(
    private readonly shards: readonly Shard[],
    private readonly placement: Placement,
    private readonly rank: RankMember | undefined,
  ) {}

  /** Starts all guests, and brings their layers in. */
  static async start(setup: Setup): Promise<Pipeline> {
    const shards = setup.placement.guests.map((_, index) => Shard.start(setup, index));
    for (const shard of shards) await shard.load();
    return new Pipeline(shards, setup.placement, setup.rank);
  }

  /** Computes tokens; the first rank that fails stops all. `check` is called between batches. */
  async eval(tokens: readonly number[], position: number, wanted: Wanted, unfinished: boolean, check?: () => Promise<void>): Promise<void> {
    try {
      if (unfinished) this.shards.forEach((shard) => shard.restart(position));
      await this.compute(tokens, position, wanted, check);
      this.rank?.finish();
    } catch (error) {
      this.rank?.stop(error instanceof Error ? error.message : String(error));
      throw error;
    }
  }

  private async compute(tokens: readonly number[], first: number, wanted: Wanted, check?: () => Promise<void>): Promise<void> {
    const { route, batch } = this.placement;
    let at = route.embed;
    let rows = 0;
    for (let start = 0; start < tokens.length; start += batch) {
      await check?.();
      const part = tokens.slice(start, start + batch);
      rows = part.length;
      at = route.embed;
      await this.shards[at]!.embed(part);
      this.shards[at]!.shareRows(part);
      for (const next of route.blocks) {
        this.handOver(at, next, rows);
        await this.shards[next]!.run(first + start, rows);
        at = next;
      }
    }
    if (wanted === "cache") return;
    this.handOver(at, route.head, rows);
    await this.shards[route.head]!.head(rows - 1);
  }

  /** Copies rows of the hidden state, and what goes with them, from one guest to another. */
  private handOver(from: number, to: number, rows: number): void {
    if (from !== to) this.shards[to]!.takeRows(this.shards[from]!, rows);
  }

  /** The logits that were computed last, as bytes, until the next call. */
  logits(): Uint8Array<ArrayBuffer> {
    return this.shards[this.placement.route.head]!.logits();
  }

  memoryBytes(): number[][] {
    return this.shards.map((shard) => shard.memoryBytes());
  }

  pagerStats(): PagerStats[] {
    return this.shards.map((shard) => shard.pagerStats()).filter((stats) => stats !== undefined);
  }
}

/** A model in guests, and the sequence of tokens that it has seen. */
export class Session {
  /** The whole sequence. */
  private tokens: number[] = [];
  /** Where guests have computed to, since they last began at the beginning. */
  private reached = 0;
  private unfinished = false;
  private busy = false;
  private generating = false;

  private constructor(
    readonly info: ModelInfo,
    readonly placement: Placement,
    /** Why this guest, and this number of ranks. */
    readonly reasons: readonly string[],
    readonly flavor: "plain" | "relaxed",
    readonly ranks: number,
    private readonly model: Model,
    private readonly placed: Placed,
    private readonly pipeline: Executor,
    private readonly rank: RankMember | undefined,
    private readonly others: readonly OtherRank[],
    /** Read from as long as there is a session; none if all of it is in memory. */
    private readonly source: Source | undefined,
  ) {}

  /** Reads the header of a model, decides about its placement, and loads it. A file that cannot be loaded is closed. */
  static async start(file: Source, options: SessionOptions = {}): Promise<Session> {
    let open = file;
    try {
      const whole = await openWhole(file, options.parts);
      open = whole.source;
      return await Session.load(whole.model, whole.source, options);
    } catch (error) {
      await open.close?.();
      throw error;
    }
  }

  private static async load(model: Model, source: Source, options: SessionOptions): Promise<Session> {
    const can = await capabilities();
    const version = await initModel();
    const info = JSON.parse(model.info()) as ModelInfo;
    const choice = choose(can, info.heads);
    if (choice.ranks === 0) throw new PolychordError("unsupported", choice.reasons.join("; "));
    const relaxed = options.flavor === "relaxed" || (options.flavor !== "plain" && choice.relaxed);
    if (relaxed && !can.relaxedSimd.ok) throw new PolychordError("unsupported", can.relaxedSimd.why);
    const reasons = [...choice.reasons];
    const executor = options.executor ?? "guest";
    if (executor !== "guest" && executor !== "webgpu") throw new PolychordError("argument", `the executor is '${String(executor)}', and can be guest or webgpu`);
    let ranks = checkRanks(options.ranks ?? 1, info);
    if (executor === "webgpu") ranks = 1;
    if (ranks > 1 && !(can.threads.ok && options.startRank)) {
      reasons.push(`one rank in place of ${ranks}: ${can.threads.ok ? "no workers are started here" : can.threads.why}`);
      ranks = 1;
    }
    const json = placeOptions(options, can);
    const placed = place(model, json);
    const placement = JSON.parse(placed.json()) as Placement;
    if (executor === "webgpu") {
      const took = meter(info.weightBytes, options);
      const network = await GpuNetwork.start(model, placement, source, took).catch((error: unknown) => {
        throw PolychordError.from(error);
      });
      const why = [`WebGPU on ${network.name}: its results are within a tolerance of the guest's, and not the same bits`];
      await source.close?.();
      return new Session(info, placement, why, "plain", 1, model, placed, network, undefined, [], undefined);
    }
    const module = await compileGuest(placement.build, relaxed);
    const shared = ranks > 1 ? RankMember.group(ranks) : undefined;
    const others: OtherRank[] = [];
    const failed = new AbortController();
    try {
      const starts: Promise<unknown>[] = [];
      if (shared && options.startRank) {
        for (let index = 1; index < ranks; index += 1) {
          const start = { index, count: ranks, shared, module, options: json };
          starts.push(options.startRank(start, failed.signal).then((other) => others.push(other)));
        }
      }
      const rank = shared && RankMember.join(shared, 0, ranks);
      const total = placement.guests.flatMap((guest) => guest.memories).flatMap((memory) => (memory.paged ? [] : memory.layers))
        .flatMap((layer) => partsOf(model, layer, 0, ranks)).reduce((sum, part) => sum + part.bytes, 0);
      const loaded = meter(total, options);
      const setup = { module, model, placed, placement, source, version, loaded, ...(rank ? { rank } : {}) };
      const [pipeline] = await Promise.all([Pipeline.start(setup), ...starts]);
      const needed = isPaged(placement) ? source : void (await source.close?.());
      return new Session(info, placement, reasons, relaxed ? "relaxed" : "plain", ranks, model, placed, pipeline, rank, others, needed);
    } catch (error) {
      // Those that are still loading, too.
      failed.abort();
      throw PolychordError.from(error);
    }
  }

  /** How many tokens it has seen. */
  get position(): number {
    return this.tokens.length;
  }

  /** The plan, as `polychord plan` writes it. */
  plan(): string {
    return this.placed.plan();
  }

  /** Tokens of a text that is to be continued. */
  encode(text: string, special = true): number[] {
    return Array.from(explained(() => this.model.encode(text, special)));
  }

  /** Tokens of a conversation that the model is to continue. */
  encodeChat(messages: readonly Message[]): number[] {
    return Array.from(explained(() => this.model.encodeChat(JSON.stringify(messages), Date.now())));
  }

  /** Appends tokens, and computes what follows the last of them. */
  async eval(tokens: readonly number[], wanted: Wanted = "logits", check?: () => Promise<void>): Promise<void> {
    const { context } = this.placement;
    if (tokens.length === 0) throw new PolychordError("argument", "there are no tokens to evaluate");
    if (tokens.length > context - this.position) {
      throw new PolychordError("argument", `${tokens.length} tokens do not fit behind ${this.position} of ${context} tokens of context`);
    }
    if (this.busy) throw new PolychordError("argument", "the session computes already");
    this.busy = true;
    try {
      await this.prepareToGoOn(check);
      await this.run(tokens, this.position, wanted, check);
    } finally {
      this.busy = false;
    }
    this.tokens.push(...tokens);
  }

  /**
   * Evaluates the sequence again from its beginning if the guests have not kept what its end needs: a
   * state cannot be cut, and windows keep little more than they see.
   */
  private async prepareToGoOn(check?: () => Promise<void>): Promise<void> {
    if (this.placed.canGoOn(this.model, this.position, this.reached)) return;
    try {
      await this.run(this.tokens, 0, "cache", check);
    } catch (error) {
      this.reached = MOST_POSITIONS;
      throw error;
    }
  }

  /** Lets all ranks compute tokens. */
  private async run(tokens: readonly number[], position: number, wanted: Wanted, check?: () => Promise<void>): Promise<void> {
    const { unfinished } = this;
    this.unfinished = true;
    const end = position + tokens.length;
    this.reached = position === 0 ? end : Math.max(this.reached, end);
    const all = this.others.map((other) => other.eval(tokens, position, wanted, unfinished));
    // Their errors are looked at after this rank's own.
    const others = Promise.allSettled(all);
    try {
      await this.pipeline.eval(tokens, position, wanted, unfinished, check);
    } catch (error) {
      const ended = await others;
      throw this.firstError(error, ended);
    }
    await others;
    this.unfinished = false;
  }

  /** The error of the rank that failed first. */
  private firstError(own: unknown, others: PromiseSettledResult<void>[]): PolychordError {
    const failed = this.rank?.failure()?.rank ?? 0;
    this.rank?.renew();
    const other = others[failed - 1];
    return PolychordError.from(other?.status === "rejected" ? other.reason : own);
  }

  /** The logits that were computed last, as bytes, until the next call. */
  logits(): Uint8Array<ArrayBuffer> {
    return this.pipeline.logits();
  }

  /** Forgets all but the first tokens. */
  truncate(length: number): void {
    if (length > this.position) throw new PolychordError("argument", `the sequence has ${this.position} tokens, not ${length}`);
    this.tokens.length = length;
  }

  /** Continues a sequence, of which what was seen already is kept. Returns how it went. */
  async *generate(sequence: readonly number[], options: GenerateOptions = {}): AsyncGenerator<Token, Outcome> {
    if (this.generating) throw new PolychordError("argument", "the session generates already: let that come to its end, or stop it");
    const wrong = sequence.find((id) => !Number.isInteger(id) || id < 0 || id >= this.info.vocab);
    if (wrong !== undefined) throw new PolychordError("argument", `the token ${wrong} is not in the vocabulary, which has 0 to ${this.info.vocab - 1}`);
    const { context } = this.placement;
    if (sequence.length > context) {
      throw new PolychordError("argument", `the text has ${sequence.length} tokens, and the context ${context}: open the model with a longer context, or begin a new conversation`);
    }
    this.generating = true;
    try {
      return yield* this.generateAlone(sequence, options);
    } finally {
      this.generating = false;
    }
  }

  private async *generateAlone(sequence: readonly number[], options: GenerateOptions): AsyncGenerator<Token, Outcome> {
    const sampler = explained(() => new Sampler(JSON.stringify({ temperature: 0, ...options.sampling })));
    const text = new Text();
    const hash = options.hash ? new Sha256() : undefined;
    const all = [...sequence];
    const ids: number[] = [];
    let same = 0;
    while (same < sequence.length - 1 && this.tokens[same] === sequence[same]) same += 1;
    this.truncate(Math.min(same, this.position));
    const most = options.maxTokens ?? Infinity;
    const begin = performance.now();
    let [prompt, written, finish] = [0, "", "maxTokens" as Outcome["finish"]];
    const stop = async () => {
      await options.pause?.();
      if (options.signal?.aborted) throw new PolychordError("cancelled", "stopped");
    };
    try {
      while (ids.length < most) {
        if (ids.length > 0 && all.length > this.placement.context) {
          finish = "contextFull";
          break;
        }
        await this.eval(all.slice(this.position), "logits", stop);
        const logits = this.logits();
        hash?.update(logits);
        const numbers = new Float32Array(logits.buffer, logits.byteOffset, logits.byteLength / 4);
        const id = explained(() => sampler.sample(numbers, Uint32Array.from(all)));
        if (ids.length === 0) prompt = performance.now() - begin;
        all.push(id);
        ids.push(id);
        const isEnd = this.info.vocabulary && this.model.isEnd(id);
        let piece = isEnd || !this.info.vocabulary ? "" : explained(() => text.push(this.model, id));
        if (isEnd || ids.length >= most) piece += text.finish();
        written += piece;
        yield { id, text: piece, isEnd };
        if (isEnd) {
          finish = "end";
          break;
        }
      }
    } catch (error) {
      if (!(error instanceof PolychordError && error.kind === "cancelled")) throw error;
      finish = "cancelled";
    } finally {
      sampler.free();
      text.free();
    }
    const hex = hash?.hex();
    hash?.free();
    return {
      ids,
      text: written,
      finish,
      hash: hex,
      promptTokens: sequence.length,
      promptMilliseconds: prompt,
      decodeMilliseconds: performance.now() - begin - prompt,
    };
  }

  /** Bytes of each linear memory of each guest of this rank. */
  memoryBytes(): number[][] {
    return this.pipeline.memoryBytes();
  }

  /** What pagers did. */
  pagerStats(): PagerStats[] {
    return this.pipeline.pagerStats();
  }

  /** Ends other ranks, and lets memory go with the session. */
  async close(): Promise<void> {
    this.others.forEach((other) => other.close());
    this.pipeline.close?.();
    this.model.free();
    this.placed.free();
    await this.source?.close?.();
  }
}

/** What a worker does for another rank. */
export async function startRank(start: RankStart, file: Source, parts?: Parts): Promise<Pipeline> {
  const version = await initModel();
  const { model, source } = await openWhole(file, parts);
  const placed = place(model, start.options);
  const placement = JSON.parse(placed.json()) as Placement;
  const rank = RankMember.join(start.shared, start.index, start.count);
  const pipeline = await Pipeline.start({ module: start.module, model, placed, placement, source, version, rank });
  if (!isPaged(placement)) await source.close?.();
  return pipeline;
}

/** Whether layers are read while tokens are computed. */
function isPaged(placement: Placement): boolean {
  return placement.guests.some((guest) => guest.memories.some((memory) => memory.paged));
}

/** Counts bytes as they come, and ends loading if it is to be stopped. */
function meter(total: number, { signal, progress }: SessionOptions): (bytes: Uint8Array) => void {
  let done = 0;
  return (bytes) => {
    if (signal?.aborted) throw new PolychordError("cancelled", "loading was stopped");
    done += bytes.byteLength;
    progress?.({ loaded: done, total });
  };
}

function checkRanks(ranks: number, info: ModelInfo): number {
  if (Number.isInteger(ranks) && ranks >= 1 && ranks <= Math.min(info.heads, 64)) return ranks;
  throw new PolychordError("ranks", `${ranks} ranks were asked for, and there can be 1 to ${Math.min(info.heads, 64)}, as many as heads`);
}

function place(model: Model, json: string): Placed {
  try {
    return placeModel(model, json);
  } catch (error) {
    throw new PolychordError("memory", error instanceof Error ? error.message : String(error), { cause: error });
  }
}

function placeOptions(options: SessionOptions, can: Capabilities): string {
  const { placement, memories, residentBytes, plan, context, batch, activations, cacheType, host } = options;
  const { memory32Bytes, memory64Bytes } = can;
  const measured = { memory32Bytes, memory64Bytes, multiMemory: can.multiMemory.ok, ...host };
  return JSON.stringify({ placement, memories, residentBytes, plan, context, batch, activations, cacheType, host: measured });
}

/** Errors of the crate are strings or plain errors. */
function explained<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw PolychordError.from(error, "argument");
  }
}

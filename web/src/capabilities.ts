// What this browser or Node can do, found by trying.

import { isNode } from "./assets.js";
import { whyNoGpu } from "./gpu/device.js";
import { PAGE } from "./memories.js";

/** One thing that an engine can do or cannot. */
export interface Ability {
  readonly ok: boolean;
  /** Why, for people. */
  readonly why: string;
}

/** What was found. Sizes are of memories that were really made, without anything being written to them. */
export interface Capabilities {
  /** What runs here, as it says itself. */
  readonly engine: string;
  readonly simd: Ability;
  readonly relaxedSimd: Ability;
  readonly multiMemory: Ability;
  readonly memory64: Ability;
  readonly threads: Ability;
  readonly opfs: Ability;
  /** Whether the executor `webgpu` has an adapter. */
  readonly webgpu: Ability;
  /** Bytes of the largest memory with 32-bit addresses. */
  readonly memory32Bytes: number;
  /** Bytes of the largest memory with 64-bit addresses; 0 if there are none. */
  readonly memory64Bytes: number;
  /** Bytes that the machine has, as far as it says so: browsers say 8 GiB at most. */
  readonly deviceBytes: number | undefined;
  /** Processors that may be used. */
  readonly processors: number;
}

const HEADER = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];
const NO_PARAMS = [0x01, 0x04, 0x01, 0x60, 0x00, 0x00, 0x03, 0x02, 0x01, 0x00];
/** `i8x16.splat`. */
const SIMD = bytes(HEADER, NO_PARAMS, [0x0a, 0x09, 0x01, 0x07, 0x00, 0x41, 0x00, 0xfd, 0x0f, 0x1a, 0x0b]);
/** Two memories. */
const MULTI = bytes(HEADER, [0x05, 0x05, 0x02, 0x00, 0x00, 0x00, 0x00]);
/** A memory with 64-bit addresses. */
const MEMORY64 = bytes(HEADER, [0x05, 0x03, 0x01, 0x04, 0x01]);
/** `f`: the result of `i16x8.relaxed_dot_i8x16_i7x16_s` of what is at 0 and at 16 goes to 32 of memory `m`. */
const RELAXED_DOT = bytes(
  HEADER,
  NO_PARAMS,
  [0x05, 0x03, 0x01, 0x00, 0x01],
  [0x07, 0x09, 0x02, 0x01, 0x6d, 0x02, 0x00, 0x01, 0x66, 0x00, 0x00],
  [0x0a, 0x19, 0x01, 0x17, 0x00, 0x41, 0x20, 0x41, 0x00, 0xfd, 0x00, 0x04, 0x00, 0x41, 0x10, 0xfd, 0x00, 0x04, 0x00],
  [0xfd, 0x92, 0x02, 0xfd, 0x0b, 0x04, 0x00, 0x0b],
);

function bytes(...parts: number[][]): Uint8Array<ArrayBuffer> {
  return new Uint8Array(parts.flat());
}

let found: Promise<Capabilities> | undefined;

/** What this browser or Node can do; it is found once. */
export function capabilities(): Promise<Capabilities> {
  return (found ??= find());
}

async function find(): Promise<Capabilities> {
  const simd = WebAssembly.validate(SIMD);
  const memory64 = canMake64();
  return {
    engine: engine(),
    simd: ability(simd, "instructions of 128 bits", "this engine is too old: the guest needs them"),
    relaxedSimd: relaxedSimd(),
    multiMemory: ability(WebAssembly.validate(MULTI), "a module may have several memories", "a module has one memory here"),
    memory64,
    threads: threads(),
    opfs: await opfs(),
    webgpu: await webgpu(),
    memory32Bytes: largest(false, [65_536, 49_152, 32_767, 16_384, 8192, 4096, 2048]),
    memory64Bytes: memory64.ok ? largest(true, [16, 12, 8, 6, 4, 3, 2, 1].map((gib) => gib * 16_384)) : 0,
    deviceBytes: await deviceBytes(),
    processors: isNode ? (await import("node:os")).availableParallelism() : (navigator.hardwareConcurrency ?? 1),
  };
}

function ability(ok: boolean, yes: string, no: string): Ability {
  return { ok, why: ok ? yes : no };
}

function engine(): string {
  if (isNode) return `Node ${process.versions.node} (V8 ${process.versions.v8})`;
  const name = /(Firefox|HeadlessChrome|Chrome|Version)\/[\d.]+/.exec(navigator.userAgent);
  return name?.[0]?.replace("Version", "Safari") ?? navigator.userAgent;
}

/** Whether the one relaxed instruction that guests use is there, and has the one result that it may have. */
export function relaxedSimd(): Ability {
  if (!WebAssembly.validate(RELAXED_DOT)) return { ok: false, why: "this engine has no relaxed SIMD" };
  const { m, f } = new WebAssembly.Instance(new WebAssembly.Module(RELAXED_DOT)).exports as {
    m: WebAssembly.Memory;
    f: () => void;
  };
  const values = new Int8Array(m.buffer, 0, 16);
  const sevenBits = new Int8Array(m.buffer, 16, 16);
  const results = new Int16Array(m.buffer, 32, 8);
  // Compiled code of another tier may differ, so it is run often enough to get there.
  for (let round = 0; round < 2000; round += 1) {
    for (let lane = 0; lane < 16; lane += 1) {
      values[lane] = round === 0 ? -128 + lane : (round * 37 + lane * 91) & 0xff;
      sevenBits[lane] = round === 0 ? 127 - lane : (round * 53 + lane * 29) & 0x7f;
    }
    f();
    for (let pair = 0; pair < 8; pair += 1) {
      const [a, b] = [pair * 2, pair * 2 + 1];
      const sum = values[a]! * sevenBits[a]! + values[b]! * sevenBits[b]!;
      if (results[pair] !== sum) {
        const why = `i16x8.relaxed_dot_i8x16_i7x16_s is wrong here: ${results[pair]} in place of ${sum}`;
        return { ok: false, why: `${why}; guests without relaxed SIMD are taken` };
      }
    }
  }
  return { ok: true, why: "products of bytes are right, and faster" };
}

/** Some engines validate what their interface cannot make. */
function canMake64(): Ability {
  if (!WebAssembly.validate(MEMORY64)) return { ok: false, why: "memories have 32-bit addresses here" };
  try {
    make(true, 1);
    return { ok: true, why: "memories may have 64-bit addresses" };
  } catch (error) {
    return { ok: false, why: `a memory with 64-bit addresses cannot be made: ${String(error)}` };
  }
}

function make(is64: boolean, pages: number): WebAssembly.Memory {
  const number = (pages: number) => (is64 ? BigInt(pages) : pages);
  // The types of TypeScript do not know 64-bit memories yet.
  const type = { address: is64 ? "i64" : "i32", initial: number(0), maximum: number(pages) };
  const memory = new WebAssembly.Memory(type as unknown as WebAssembly.MemoryDescriptor);
  memory.grow(number(pages) as number);
  return memory;
}

function largest(is64: boolean, sizes: number[]): number {
  for (const pages of sizes) {
    try {
      if (make(is64, pages).buffer.byteLength === pages * PAGE) return pages * PAGE;
    } catch {
      // The next smaller one.
    }
  }
  return 0;
}

function threads(): Ability {
  if (typeof SharedArrayBuffer === "undefined" || (!isNode && !globalThis.crossOriginIsolated)) {
    const why = "the page is not cross-origin isolated: its server has to send Cross-Origin-Opener-Policy: " +
      "same-origin and Cross-Origin-Embedder-Policy: require-corp";
    return { ok: false, why };
  }
  return { ok: true, why: "workers may share memory" };
}

async function opfs(): Promise<Ability> {
  if (isNode) return { ok: false, why: "Node reads files" };
  if (!navigator.storage?.getDirectory) {
    const why = globalThis.isSecureContext ? "this browser has no storage for files" : "storage needs https or localhost";
    return { ok: false, why };
  }
  try {
    await navigator.storage.getDirectory();
    return { ok: true, why: "models are kept in this browser" };
  } catch (error) {
    return { ok: false, why: `storage is denied (a private window?): ${String(error)}` };
  }
}

async function webgpu(): Promise<Ability> {
  const why = await whyNoGpu();
  return { ok: why === undefined, why: why ?? "there is an adapter; results are within a tolerance, and not the same bits" };
}

async function deviceBytes(): Promise<number | undefined> {
  if (isNode) return (await import("node:os")).totalmem();
  const gib = (navigator as { deviceMemory?: number }).deviceMemory;
  return gib === undefined ? undefined : gib * 2 ** 30;
}

/** What was chosen, and why. */
export interface Choice {
  /** `auto`, with which placements there are in what order, is for the plan to decide by size. */
  readonly placements: readonly string[];
  readonly relaxed: boolean;
  readonly ranks: number;
  readonly reasons: readonly string[];
}

/** Chooses the guest and the number of ranks, and says which placements there are. */
export function choose(can: Capabilities, heads = 1): Choice {
  if (!can.simd.ok) return { placements: [], relaxed: false, ranks: 0, reasons: [can.simd.why] };
  const placements = ["resident32", "sharded32", "paged"];
  const reasons = [`a 32-bit memory has up to ${can.memory32Bytes} bytes`];
  if (can.multiMemory.ok) placements.push("multi32");
  if (can.memory64.ok) placements.push("native64");
  reasons.push(can.multiMemory.ok ? "multi32: " + can.multiMemory.why : "no multi32: " + can.multiMemory.why);
  reasons.push(can.memory64.ok ? `native64: up to ${can.memory64Bytes} bytes` : "no native64: " + can.memory64.why);
  reasons.push((can.relaxedSimd.ok ? "relaxed SIMD: " : "no relaxed SIMD: ") + can.relaxedSimd.why);
  // Ranks of most networks have the weights for themselves, so more than one is taken only where the caller asks for it.
  reasons.push(can.threads.ok ? `up to ${Math.min(can.processors, heads)} ranks: ${can.threads.why}` : "one rank: " + can.threads.why);
  return { placements, relaxed: can.relaxedSimd.ok, ranks: 1, reasons };
}

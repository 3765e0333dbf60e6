// The functions of the module `env`, which every guest may import (abi/src/import.rs). All that a guest
// passes is checked before anything is read or allocated, in the order that abi/src/code.rs has.

import { PolychordError, Refusal, code } from "./errors.js";
import { Counters, type Layers } from "./layers.js";
import type { RankMember } from "./ranks.js";

/** A number as guests pass addresses and lengths: 32 or 64 bits, signed as JavaScript has it. */
type Address = number | bigint;

/** What the imports of one guest are about. It is bound when the guest has been instantiated. */
export interface Host {
  layers: Layers;
  rank?: RankMember;
  /** Why the last request was refused. */
  lastRefusal?: string;
}

/** The imports; `host` is asked in the middle of calls. */
export function layerImports(host: () => Host): Record<string, (...args: never[]) => number | bigint> {
  // Every refusal is a negative code, and a bug of this host one, too: a guest never sees an exception.
  const serve = <T>(work: (host: Host) => T, refused: (code: number) => T): T => {
    const here = host();
    try {
      return work(here);
    } catch (error) {
      here.layers.counters.errors += 1n;
      here.lastRefusal = error instanceof Error ? error.message : String(error);
      return refused(codeOf(error));
    }
  };
  const i32 = (work: (host: Host) => number) => serve(work, (code) => code);
  const i64 = (work: (host: Host) => bigint) => serve(work, (code) => BigInt(code));
  return {
    memory64_is_enabled: () => i32((it) => (it.layers.space.isEmpty ? 0 : 1)),
    memory64_load_layer: (layer: number, ptr: Address, max: Address) =>
      i32((it) => {
        requireEnabled(it);
        const to = buffer(it, ptr, max);
        return it.layers.copy(layer >>> 0, to);
      }),
    memory64_read: (offset: bigint, ptr: Address, len: Address) =>
      i32((it) => {
        requireEnabled(it);
        const to = transferable(buffer(it, ptr, len));
        it.layers.space.pieces(BigInt.asUintN(64, offset), to.byteLength, (part, at) => to.set(part, at));
        it.layers.counters.reads += 1n;
        it.layers.counters.bytesRead += BigInt(to.byteLength);
        return to.byteLength;
      }),
    memory64_write: (offset: bigint, ptr: Address, len: Address) =>
      i32((it) => {
        requireEnabled(it);
        const from = transferable(buffer(it, ptr, len));
        it.layers.space.pieces(BigInt.asUintN(64, offset), from.byteLength, (part, at) =>
          part.set(from.subarray(at, at + part.byteLength)),
        );
        it.layers.counters.writes += 1n;
        it.layers.counters.bytesWritten += BigInt(from.byteLength);
        return from.byteLength;
      }),
    memory64_map_layer: (id: number) =>
      i64((it) => {
        requireEnabled(it);
        const layer = it.layers.layer(id >>> 0);
        it.layers.loadSync(layer.id);
        return it.layers.space.address(layer.region, layer.offset);
      }),
    memory64_layer_bytes: (id: number) => i64((it) => (requireEnabled(it), BigInt(it.layers.layer(id >>> 0).bytes))),
    memory64_prefetch: (id: number) => i32((it) => (requireEnabled(it), it.layers.layer(id >>> 0), 0)),
    memory64_release: (id: number) => i32((it) => (requireEnabled(it), it.layers.layer(id >>> 0), 0)),
    memory64_stats: () => i64((it) => it.layers.counters.packed()),
    memory64_stats_into: (ptr: Address, len: Address) =>
      i32((it) => {
        const to = buffer(it, ptr, len);
        if (to.byteLength < Counters.bytes) {
          throw new Refusal(code.bufferTooSmall, `statistics take ${Counters.bytes} bytes, and the buffer has ${to.byteLength}`);
        }
        it.layers.counters.write(new DataView(to.buffer, to.byteOffset, Counters.bytes));
        return Counters.bytes;
      }),
    all_gather: (ptr: Address, chunk: Address, total: Address) =>
      i32((it) => {
        const bytes = () => buffer(it, ptr, total);
        if (it.rank) return it.rank.allGather(bytes, unsigned(chunk)), 0;
        checkChunk(unsigned(chunk), BigInt(bytes().byteLength), 1);
        return 0;
      }),
  };
}

function codeOf(error: unknown): number {
  if (error instanceof Refusal) return error.code;
  if (error instanceof PolychordError && (error.kind === "file" || error.kind === "storage")) return code.readFailed;
  return code.internal;
}

function requireEnabled(host: Host): void {
  if (host.layers.space.isEmpty) throw new Refusal(code.notEnabled, "the host made no memory for this guest");
}

/** A pointer or length: unsigned, as addresses of WebAssembly are. */
function unsigned(number: Address): bigint {
  return typeof number === "bigint" ? BigInt.asUintN(64, number) : BigInt(number >>> 0);
}

/** The buffer that a guest names, checked against its memory as it is now. */
function buffer(host: Host, pointer: Address, length: Address): Uint8Array {
  const memory = host.layers.space.linear[0]!;
  const [ptr, len] = [unsigned(pointer), unsigned(length)];
  const space = typeof pointer === "bigint" ? 1n << 64n : 1n << 32n;
  if (ptr + len > space) {
    throw new Refusal(code.pointerOverflow, `${len} bytes at ${ptr} leave the guest's address space`);
  }
  if (ptr + len > BigInt(memory.bytes) || (ptr === 0n && len > 0n)) {
    throw new Refusal(code.pointerOutOfBounds, `${len} bytes at ${ptr} leave the guest's memory of ${memory.bytes}, or are at null`);
  }
  return memory.view(Number(ptr), Number(len));
}

/** A buffer whose length the result can express. */
function transferable(buffer: Uint8Array): Uint8Array {
  if (buffer.byteLength > 0x7fff_ffff) {
    throw new Refusal(code.invalidRange, `${buffer.byteLength} bytes are more than a result can express`);
  }
  return buffer;
}

/** Whether chunks of all ranks, one after another, make up a total. */
export function checkChunk(chunk: bigint, total: bigint, ranks: number): void {
  if (chunk <= total && total <= chunk * BigInt(ranks)) return;
  throw new Refusal(code.invalidRange, `chunks of ${chunk} bytes of ${ranks} ranks do not make up ${total}`);
}

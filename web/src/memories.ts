// The linear memories of a guest, and the memories of any size that are found in them.

import { PolychordError, Refusal, code } from "./errors.js";

/** Bytes of a WebAssembly page, of which regions and layers are made. */
export const PAGE = 65_536;

/** One linear memory, with addresses of 32 or 64 bits. */
export class LinearMemory {
  constructor(
    private readonly memory: WebAssembly.Memory,
    private readonly is64: boolean,
  ) {}

  get bytes(): number {
    return this.memory.buffer.byteLength;
  }

  /** The bytes of a range that is inside. */
  view(start: number, bytes: number): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.memory.buffer as ArrayBuffer, start, bytes);
  }

  /** Makes it larger; where it ended before. */
  grow(bytes: number): number {
    const pages = Math.ceil(bytes / PAGE);
    const before = this.bytes;
    try {
      // With 64-bit addresses the number of pages is a BigInt.
      this.memory.grow((this.is64 ? BigInt(pages) : pages) as number);
    } catch (error) {
      throw new PolychordError(
        "memory",
        `a memory of ${before} bytes cannot grow by ${pages * PAGE}: this browser or machine gives no more. ` +
          "Close other tabs, use a shorter context, a smaller model, or the placement paged.",
        { cause: error },
      );
    }
    return before;
  }
}

/** A part of a linear memory that the host has for layers or for keys and values. */
export interface Region {
  readonly memory: number;
  readonly start: number;
  readonly bytes: number;
}

/** All regions of a guest, as one space of addresses in the order in which they were made. */
export class Space {
  private readonly regions: Region[] = [];

  constructor(readonly linear: readonly LinearMemory[]) {}

  get isEmpty(): boolean {
    return this.regions.length === 0;
  }

  get bytes(): number {
    return this.regions.reduce((sum, region) => sum + region.bytes, 0);
  }

  /** Adds a region: in a linear memory of its own if there are several, else at the end of the only one. */
  reserve(bytes: number): Region {
    const memory = this.linear.length > 1 ? this.regions.length + 1 : 0;
    const linear = this.linear[memory];
    if (!linear) {
      throw new PolychordError("memory", `this guest has ${this.linear.length - 1} memories beside its own, and one more is needed`);
    }
    const region = { memory, start: linear.grow(bytes), bytes };
    this.regions.push(region);
    return region;
  }

  /** Calls `use` with the pieces of a range of the common space, in order. */
  pieces(offset: bigint, bytes: number, use: (bytes: Uint8Array, at: number) => void): void {
    if (offset + BigInt(bytes) > BigInt(this.bytes)) {
      throw new Refusal(code.invalidRange, `bytes ${offset} to ${offset + BigInt(bytes)} leave the memories of ${this.bytes} bytes`);
    }
    let from = Number(offset);
    let at = 0;
    for (const region of this.regions) {
      if (from < region.bytes && at < bytes) {
        const part = Math.min(region.bytes - from, bytes - at);
        use(this.view(region, from, part), at);
        at += part;
        from = 0;
      } else {
        from = Math.max(0, from - region.bytes);
      }
    }
  }

  view(region: Region, offset: number, bytes: number): Uint8Array<ArrayBuffer> {
    return this.linear[region.memory]!.view(region.start + offset, bytes);
  }

  /** An address as guests have it: the number of the memory is in the upper half. */
  address(region: Region, offset: number): bigint {
    return (BigInt(region.memory) << 32n) + BigInt(region.start + offset);
  }
}

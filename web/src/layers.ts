// The layers of a guest: registered, loaded, and where they are.

import { PolychordError, Refusal, code } from "./errors.js";
import { PAGE, type Region, type Space } from "./memories.js";
import { PIECE, type Source } from "./source.js";

/** A layer as the placement has it. */
export interface LayerPlace {
  readonly id: number;
  readonly name: string;
  /** Where it begins in the file. */
  readonly start: number;
  readonly bytes: number;
  /** Where it begins in its region. */
  readonly offset: number;
}

/** A range of a file. */
export interface FileRange {
  readonly start: number;
  readonly bytes: number;
}

interface Layer extends LayerPlace {
  region: Region;
  /** What of it is brought in: all of it, or what this rank computes with. */
  parts: readonly FileRange[];
  /** Where it is in its region now. */
  offset: number;
  loaded: boolean;
}

/** What guests may ask for, and what they asked for (abi/src/stats.rs). */
export class Counters {
  reads = 0n;
  writes = 0n;
  bytesRead = 0n;
  bytesWritten = 0n;
  loads = 0n;
  maps = 0n;
  bytesLoaded = 0n;
  errors = 0n;

  static readonly bytes = 64;

  /** The structure as guests get it. */
  write(to: DataView): void {
    const all = [this.reads, this.writes, this.bytesRead, this.bytesWritten, this.loads, this.maps, this.bytesLoaded, this.errors];
    all.forEach((number, index) => to.setBigUint64(index * 8, number, true));
  }

  /** Four counters of 16 bits. */
  packed(): bigint {
    const low = (number: bigint) => (number > 0xffffn ? 0xffffn : number);
    return BigInt.asIntN(64, (low(this.errors) << 48n) | (low(this.loads) << 32n) | (low(this.writes) << 16n) | low(this.reads));
  }
}

/** The layers of one guest. */
export class Layers {
  private readonly layers = new Map<number, Layer>();
  readonly counters = new Counters();

  constructor(
    readonly space: Space,
    private readonly source: Source,
  ) {}

  register(place: LayerPlace, region: Region, parts: readonly FileRange[] = [place]): void {
    if (this.layers.has(place.id)) throw new PolychordError("argument", `layer ${place.id} is registered twice`);
    if (place.offset + place.bytes > region.bytes) {
      throw new PolychordError("argument", `layer ${place.id} (${place.name}) leaves its memory`);
    }
    this.layers.set(place.id, { ...place, region, parts, loaded: false });
  }

  /** Gives a layer another place, which is not loaded there. */
  move(id: number, offset: number): void {
    const layer = this.layer(id);
    if (layer.offset !== offset) [layer.offset, layer.loaded] = [offset, false];
  }

  /** Forgets that a layer is there. */
  release(id: number): void {
    this.layer(id).loaded = false;
  }

  layer(id: number): Layer {
    const layer = this.layers.get(id);
    if (!layer) throw new Refusal(code.layerNotFound, `no layer has the number ${id}`);
    return layer;
  }

  isLoaded(id: number): boolean {
    return this.layer(id).loaded;
  }

  /** Brings a layer in, straight to its place. `took` is told of bytes as they come. */
  async load(id: number, took: (bytes: Uint8Array, start: number) => void = () => undefined): Promise<void> {
    const layer = this.layer(id);
    if (layer.loaded) return;
    if (this.source.readSync) {
      this.loadSync(id, took);
      return;
    }
    this.clearAround(layer);
    try {
      for (const [part, start] of this.parts(layer)) {
        await this.source.read(start, part);
        took(part, start);
      }
    } catch (error) {
      this.clear(layer);
      throw error;
    }
    this.loaded(layer);
  }

  /** Brings a layer in at once, where its source can. */
  loadSync(id: number, took: (bytes: Uint8Array, start: number) => void = () => undefined): void {
    const layer = this.layer(id);
    if (layer.loaded) return;
    if (!this.source.readSync) {
      throw new Refusal(code.readFailed, `layer ${id} (${layer.name}) is not loaded, and ${this.source.name} cannot be read in the middle of a call`);
    }
    this.clearAround(layer);
    try {
      for (const [part, start] of this.parts(layer)) {
        this.source.readSync(start, part);
        took(part, start);
      }
    } catch (error) {
      this.clear(layer);
      throw error;
    }
    this.loaded(layer);
  }

  /** The bytes of a layer in its place, a piece at a time, with where each is in the file. */
  private *parts(layer: Layer): Generator<[Uint8Array, number]> {
    for (const { start, bytes } of layer.parts) {
      const offset = layer.offset + start - layer.start;
      for (let at = 0; at < bytes; at += PIECE) {
        yield [this.space.view(layer.region, offset + at, Math.min(PIECE, bytes - at)), start + at];
      }
    }
  }

  /** A layer that could not be read is zeros, and not loaded. */
  private clear(layer: Layer): void {
    this.space.view(layer.region, layer.offset, layer.bytes).fill(0);
  }

  /** Copies a layer to a buffer of the guest: from its place, or from its source. */
  copy(id: number, to: Uint8Array): number {
    const layer = this.layer(id);
    if (layer.bytes > to.byteLength || layer.bytes > 0x7fff_ffff) {
      throw new Refusal(code.bufferTooSmall, `layer ${id} has ${layer.bytes} bytes, and the buffer ${to.byteLength}`);
    }
    const part = to.subarray(0, layer.bytes);
    if (layer.loaded) {
      part.set(this.space.view(layer.region, layer.offset, layer.bytes));
      this.counters.reads += 1n;
      this.counters.bytesRead += BigInt(layer.bytes);
    } else if (this.source.readSync) {
      this.source.readSync(layer.start, part);
      this.counters.loads += 1n;
      this.counters.bytesLoaded += BigInt(layer.bytes);
    } else {
      throw new Refusal(code.readFailed, `layer ${id} is not loaded, and ${this.source.name} cannot be read in the middle of a call`);
    }
    return layer.bytes;
  }

  private loaded(layer: Layer): void {
    layer.loaded = true;
    this.counters.loads += 1n;
    this.counters.bytesLoaded += BigInt(layer.bytes);
  }

  /** A layer has the pages that it touches for itself: the rest of them is zero. */
  private clearAround(layer: Layer): void {
    const [start, end] = [layer.offset, layer.offset + layer.bytes];
    const first = start - (start % PAGE);
    const last = Math.min(Math.ceil(end / PAGE) * PAGE, layer.region.bytes);
    this.space.view(layer.region, first, start - first).fill(0);
    this.space.view(layer.region, end, last - end).fill(0);
  }
}

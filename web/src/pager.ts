// Layers that share a window: those that are needed come in, and others go.

import { PolychordError } from "./errors.js";
import type { Layers } from "./layers.js";
import { PAGE, type Region } from "./memories.js";
import type { PlacedLayer } from "./placement.js";

interface Held {
  readonly layer: PlacedLayer;
  readonly start: number;
  readonly end: number;
  used: number;
}

/** What was brought in. */
export interface PagerStats {
  hits: number;
  misses: number;
  bytes: number;
  milliseconds: number;
}

/** A window and the layers in it. */
export class Pager {
  private held: Held[] = [];
  private clock = 0;
  readonly stats: PagerStats = { hits: 0, misses: 0, bytes: 0, milliseconds: 0 };

  constructor(
    private readonly layers: Layers,
    private readonly window: Region,
    all: readonly PlacedLayer[],
  ) {
    for (const layer of all) layers.register({ ...layer, offset: layer.start % PAGE }, window.bytes >= span(layer) ? window : tooSmall(layer, window));
  }

  /** Brings layers in, which all stay until the next call. */
  async require(wanted: readonly PlacedLayer[]): Promise<void> {
    const before = performance.now();
    this.clock += 1;
    const missing = wanted.filter((layer) => {
      const there = this.held.find((held) => held.layer.id === layer.id);
      if (there) there.used = this.clock;
      return !there;
    });
    this.stats.hits += wanted.length - missing.length;
    for (const layer of missing) {
      let start = this.gap(span(layer));
      while (start === undefined && this.evict()) start = this.gap(span(layer));
      if (start === undefined) {
        // What is needed at once fits, but not between what is there.
        this.held.forEach(({ layer }) => this.layers.release(layer.id));
        this.held = [];
        return this.require(wanted);
      }
      this.held.push({ layer, start, end: start + span(layer), used: this.clock });
      this.layers.move(layer.id, start + (layer.start % PAGE));
      await this.layers.load(layer.id);
      this.stats.misses += 1;
      this.stats.bytes += layer.bytes;
    }
    this.stats.milliseconds += performance.now() - before;
  }

  /** Where there is room. */
  private gap(bytes: number): number | undefined {
    let start = 0;
    for (const held of this.held.sort((a, b) => a.start - b.start)) {
      if (held.start - start >= bytes) return start;
      start = held.end;
    }
    return this.window.bytes - start >= bytes ? start : undefined;
  }

  /** Parts are used in turn, so what was used last is needed last. */
  private evict(): boolean {
    const others = this.held.filter((held) => held.used < this.clock);
    const last = others.reduce<Held | undefined>((last, held) => (!last || held.used > last.used ? held : last), undefined);
    if (!last) return false;
    this.layers.release(last.layer.id);
    this.held.splice(this.held.indexOf(last), 1);
    return true;
  }
}

/** Bytes of the pages that a layer has for itself. */
function span(layer: PlacedLayer): number {
  return Math.ceil(((layer.start % PAGE) + layer.bytes) / PAGE) * PAGE;
}

function tooSmall(layer: PlacedLayer, window: Region): never {
  throw new PolychordError("memory", `layer ${layer.name} of ${layer.bytes} bytes does not fit in a window of ${window.bytes}: allow more (residentBytes)`);
}

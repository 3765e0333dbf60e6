// The JSON that `place` of the crate gives.

import type { Build } from "./assets.js";
import type { LayerPlace } from "./layers.js";

/** A layer, and what it is a part of: a block by its number. */
export interface PlacedLayer extends LayerPlace {
  readonly part: "embedding" | "output" | "rope" | number;
}

/** A memory of a guest. */
export interface PlacedMemory {
  readonly region: string;
  readonly bytes: number;
  /** Whether its layers share it as a window. */
  readonly paged: boolean;
  /** Whether it is for keys and values. */
  readonly isCache: boolean;
  readonly layers: readonly PlacedLayer[];
}

/** Which guests hold which layers. */
export interface Placement {
  readonly name: string;
  readonly reason: string;
  readonly build: Build;
  readonly context: number;
  readonly batch: number;
  readonly dim: number;
  readonly vocab: number;
  readonly heads: number;
  /** Numbers that go with each row of the hidden state from guest to guest. */
  readonly carried: number;
  /** Bytes that each guest needs in all. */
  readonly guestBytes: readonly number[];
  readonly guests: readonly { readonly blocks: readonly [number, number]; readonly memories: readonly PlacedMemory[] }[];
  readonly route: { readonly embed: number; readonly blocks: readonly number[]; readonly head: number };
  /** Whether the output is computed with the embedding's matrix. */
  readonly tied: boolean;
}

/** What a session is to be like. */
export interface PlaceOptions {
  placement?: string;
  /** How many guests `sharded32` is to have. */
  memories?: number;
  /** Most bytes of weights that `paged` holds at a time. */
  residentBytes?: number;
  /** A plan, as `polychord plan` writes it, in place of a placement. */
  plan?: unknown;
  context?: number;
  batch?: number;
  /** `f32` or `int8`. */
  activations?: string;
  /** `f32` or `f16`. */
  cacheType?: string;
}

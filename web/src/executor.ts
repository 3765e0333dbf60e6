// What computes a network: guests, or another that has the same tokens, context and logits.

import type { PagerStats } from "./pager.js";

/** What computes tokens one after the other, and then has logits. */
export interface Executor {
  /**
   * Computes tokens from a position on, and forgets what it had from there. `unfinished` tells that the call
   * before this one was not completed; `check` is called between batches, and ends it by an error.
   */
  eval(tokens: readonly number[], position: number, wanted: "logits" | "cache", unfinished: boolean, check?: () => Promise<void>): Promise<void>;
  /** The logits that were computed last, as bytes, until the next call. */
  logits(): Uint8Array<ArrayBuffer>;
  /** Bytes of each memory of each part. */
  memoryBytes(): number[][];
  /** What pagers did. */
  pagerStats(): PagerStats[];
  /** Gives back what is not given back by itself. */
  close?(): void;
}

// What a page and its worker say to each other.

import type { ErrorKind } from "./errors.js";
import type { GenerateOptions, Message, RankStart, SessionOptions, Wanted } from "./session.js";

/** From where a model comes. */
export type ModelSource =
  /** A file that was chosen or dropped. */
  | { kind: "file"; file: Blob }
  /** All files of a model that is split, in any order. */
  | { kind: "files"; files: File[] }
  /**
   * An address; with `keep`, it goes into storage first, and is there at the next visit. Of a model that
   * is split it is the address of any part; `sha256` is of that part.
   */
  | { kind: "url"; url: string; keep: boolean; sha256?: string }
  /** A model in storage; `others` are its other parts by their names, if it is split, and `name` is its own. */
  | { kind: "stored"; sha256: string; name?: string; others?: Record<string, string> };

/** Options that can be sent to a worker. */
export type OpenOptions = Omit<SessionOptions, "startRank" | "progress" | "signal">;

export type Request =
  | { type: "capabilities"; id: number }
  | { type: "open"; id: number; source: ModelSource; options: OpenOptions }
  | { type: "generate"; id: number; prompt?: string; messages?: Message[]; ids?: number[]; options: Omit<GenerateOptions, "signal" | "pause"> }
  | { type: "remove"; id: number; url: string }
  | { type: "close"; id: number }
  | { type: "cancel" }
  | { type: "rank"; id: number; source: ModelSource; start: RankStart }
  | { type: "eval"; id: number; tokens: number[]; position: number; wanted: Wanted; unfinished: boolean };

export type Answer =
  | { id: number; type: "done"; value: unknown }
  | { id: number; type: "failed"; kind: ErrorKind; message: string }
  | { id: number; type: "progress"; phase: string; done: number; total: number }
  | { id: number; type: "token"; text: string; isEnd: boolean };

// What a page and its worker say to each other.

import type { ErrorKind } from "./errors.js";
import type { GenerateOptions, Message, RankStart, SessionOptions, Wanted } from "./session.js";

/** From where a model comes. */
export type ModelSource =
  /** A file that was chosen or dropped. */
  | { kind: "file"; file: Blob }
  /** An address; with `keep`, it goes into storage first, and is there at the next visit. */
  | { kind: "url"; url: string; keep: boolean; sha256?: string }
  /** A model in storage. */
  | { kind: "stored"; sha256: string };

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

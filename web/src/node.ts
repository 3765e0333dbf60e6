// Models in Node: files by positioned reads, and ranks in threads.

import { closeSync, fstatSync, openSync, readSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { Worker } from "node:worker_threads";

import { PolychordError } from "./errors.js";
import type { Parts } from "./parts.js";
import { Session, type OtherRank, type RankStart, type SessionOptions } from "./session.js";
import { truncated, type Source } from "./source.js";

export * from "./index.js";

/** A file that is read by positioned reads, straight to where its bytes go. */
export class NodeFile implements Source {
  readonly bytes: number;

  private constructor(
    readonly name: string,
    private readonly file: number,
  ) {
    this.bytes = fstatSync(file).size;
  }

  static open(path: string): NodeFile {
    try {
      // Looked at first: opening a pipe waits for who writes to it.
      if (statSync(path).isFile()) return new NodeFile(path, openSync(path, "r"));
    } catch (error) {
      throw new PolychordError("file", `${path} cannot be opened: ${String(error)}`, { cause: error });
    }
    throw new PolychordError("file", `${path} is no regular file`);
  }

  readSync(start: number, into: Uint8Array): void {
    let at = 0;
    while (at < into.byteLength) {
      const got = readSync(this.file, into, at, into.byteLength - at, start + at);
      if (got === 0) throw truncated(this.name, start, into.byteLength, at);
      at += got;
    }
  }

  read(start: number, into: Uint8Array): Promise<void> {
    this.readSync(start, into);
    return Promise.resolve();
  }

  close(): void {
    closeSync(this.file);
  }
}

/** The other parts of a model: they are in the folder of this one. */
export function partsOf(path: string): Parts {
  return { fileName: basename(path), open: async (name) => NodeFile.open(join(dirname(path), name)) };
}

/** Opens a model file, and the other parts if it is one of several, and loads it. */
export async function startSession(path: string, options: SessionOptions = {}): Promise<Session> {
  const startRank = (start: RankStart, signal: AbortSignal) => startThread(path, start, signal);
  return Session.start(NodeFile.open(path), { startRank, parts: partsOf(path), ...options });
}

async function startThread(path: string, start: RankStart, signal: AbortSignal): Promise<OtherRank> {
  const worker = new Worker(new URL("./node-rank.js", import.meta.url), { workerData: { path, start } });
  worker.unref();
  signal.addEventListener("abort", () => void worker.terminate());
  let ended: PolychordError | undefined;
  let answer: { resolve: () => void; reject: (error: unknown) => void } | undefined;
  const fail = (error: unknown) => {
    ended = PolychordError.from(error, "ranks");
    answer?.reject(ended);
  };
  worker.on("error", fail);
  worker.on("exit", (status) => fail(new PolychordError("ranks", `rank ${start.index} has ended with status ${status}`)));
  worker.on("message", (error: string | undefined) => {
    if (error === undefined) answer?.resolve();
    else answer?.reject(new PolychordError("guest", error));
  });
  const next = () =>
    new Promise<void>((resolve, reject) => {
      answer = { resolve, reject };
      if (ended) reject(ended);
    });
  await next();
  return {
    eval(tokens, position, wanted, unfinished) {
      const done = next();
      worker.postMessage({ tokens, position, wanted, unfinished });
      return done;
    },
    close: () => void worker.terminate(),
  };
}

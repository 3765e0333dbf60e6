// The worker of a page: it has the session, so that the page stays alive. Each further rank is one more.

import { capabilities, choose } from "./capabilities.js";
import { PolychordError } from "./errors.js";
import type { Answer, ModelSource, Request } from "./protocol.js";
import { RankMember } from "./ranks.js";
import { Session, startRank, type OtherRank, type Pipeline, type RankStart } from "./session.js";
import { BlobSource, type Source } from "./source.js";
import { Store } from "./store.js";
import { UrlSource } from "./url.js";

let session: Session | undefined;
let pipeline: Pipeline | undefined;
let stopping: AbortController | undefined;

onmessage = (event: MessageEvent<Request>) => {
  const request = event.data;
  if (request.type === "cancel") return stopping?.abort();
  const answer = (answer: Answer) => postMessage(answer);
  serve(request, answer).then(
    (value) => answer({ id: request.id, type: "done", value }),
    (error: unknown) => {
      const { kind, message } = PolychordError.from(explain(error), "memory");
      answer({ id: request.id, type: "failed", kind, message });
    },
  );
};

async function serve(request: Exclude<Request, { type: "cancel" }>, answer: (answer: Answer) => void): Promise<unknown> {
  const { id } = request;
  switch (request.type) {
    case "capabilities": {
      const can = await capabilities();
      return { can, choice: choose(can) };
    }
    case "open": {
      await session?.close();
      session = undefined;
      stopping = new AbortController();
      const { signal } = stopping;
      const progress = (phase: string, done: number, total: number) => answer({ id, type: "progress", phase, done, total });
      const [source, from] = await openSource(request.source, signal, progress);
      session = await Session.start(source, {
        ...request.options,
        signal,
        progress: throttled((loaded, total) => progress("load", loaded, total)),
        startRank: (start) => startWorker(from, start),
      });
      const { info, placement, reasons, flavor, ranks } = session;
      return { info, placement, reasons, flavor, ranks, memoryBytes: session.memoryBytes(), plan: session.plan() };
    }
    case "generate": {
      if (!session) throw new PolychordError("argument", "no model is open");
      stopping = new AbortController();
      const { messages, prompt, ids } = request;
      const tokens = ids ?? (messages ? session.encodeChat(messages) : session.encode(prompt ?? ""));
      const steps = session.generate(tokens, { ...request.options, signal: stopping.signal, pause: turn });
      let step = await steps.next();
      for (; !step.done; step = await steps.next()) {
        const { text, isEnd } = step.value;
        answer({ id, type: "token", text, isEnd });
      }
      return { ...step.value, memoryBytes: session.memoryBytes(), paging: session.pagerStats() };
    }
    case "remove":
      return (await Store.open()).remove(request.url);
    case "rank":
      try {
        pipeline = await startRank(request.start, (await openSource(request.source))[0]);
      } catch (error) {
        RankMember.join(request.start.shared, request.start.index, request.start.count).stop(String(error));
        throw error;
      }
      return undefined;
    case "eval":
      return pipeline?.eval(request.tokens, request.position, request.wanted, request.unfinished);
    case "close":
      await session?.close();
      session = undefined;
      return undefined;
  }
}

type ProgressSink = (phase: string, done: number, total: number) => void;

/** Opens a source; and what other ranks open in its place. */
async function openSource(from: ModelSource, signal?: AbortSignal, progress?: ProgressSink): Promise<[Source, ModelSource]> {
  switch (from.kind) {
    case "file":
      return [new BlobSource(from.file), from];
    case "stored":
      return [await (await Store.open()).source(from.sha256), from];
    case "url": {
      const options = signal ? { signal } : {};
      if (!from.keep) return [await UrlSource.open(from.url, options), from];
      const store = await Store.open();
      const report = throttled((done, total, phase) => progress?.(phase!, done, total));
      const { sha256 } = await store.fetch(from.url, {
        ...options,
        ...(from.sha256 ? { sha256: from.sha256 } : {}),
        progress: ({ phase, done, total }) => report(done, total, phase),
      });
      return [await store.source(sha256!), { kind: "stored", sha256: sha256! }];
    }
  }
}

/** A further rank in a worker of its own. */
async function startWorker(source: ModelSource, start: RankStart): Promise<OtherRank> {
  const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: `rank ${start.index}` });
  let settle: { resolve: () => void; reject: (error: unknown) => void } | undefined;
  worker.onmessage = ({ data }: MessageEvent<Answer>) => {
    if (data.type === "done") settle?.resolve();
    if (data.type === "failed") settle?.reject(new PolychordError(data.kind, data.message));
  };
  worker.onerror = (event) => settle?.reject(new PolychordError("ranks", `rank ${start.index} has ended: ${event.message}`));
  const send = (request: Request) =>
    new Promise<void>((resolve, reject) => {
      settle = { resolve, reject };
      worker.postMessage(request);
    });
  await send({ type: "rank", id: 0, source, start });
  return {
    eval: (tokens, position, wanted, unfinished) => send({ type: "eval", id: 0, tokens: [...tokens], position, wanted, unfinished }),
    close: () => worker.terminate(),
  };
}

/** What people are told of errors that engines have no words for. */
function explain(error: unknown): unknown {
  if (error instanceof RangeError || (error instanceof Error && /out of memory|allocation/i.test(error.message))) {
    const message = `this browser has not enough memory for that (${error.message}): close other tabs, or use a shorter context or a smaller model`;
    return new PolychordError("memory", message, { cause: error });
  }
  return error;
}

/** Lets messages in, such as one that says to stop. */
const channel = new MessageChannel();
function turn(): Promise<void> {
  return new Promise((resolve) => {
    channel.port1.onmessage = () => resolve();
    channel.port2.postMessage(undefined);
  });
}

/** Progress that a page can follow: ten times a second, and the end. */
function throttled(report: (done: number, total: number, phase?: string) => void): (progress: { loaded: number; total: number } | number, total?: number, phase?: string) => void {
  let last = 0;
  let lastPhase: string | undefined;
  return (progress, total, phase) => {
    const [done, all] = typeof progress === "number" ? [progress, total ?? 0] : [progress.loaded, progress.total];
    const now = performance.now();
    if (now - last < 100 && done < all && phase === lastPhase) return;
    [last, lastPhase] = [now, phase];
    report(done, all, phase);
  };
}

// The worker of a page: it has the session, so that the page stays alive. Each further rank is one more.

import { capabilities, choose } from "./capabilities.js";
import { PolychordError } from "./errors.js";
import { fileNameOf, siblingOf, type Parts } from "./parts.js";
import type { Answer, ModelSource, Request } from "./protocol.js";
import { RankMember } from "./ranks.js";
import { Session, startRank, type OtherRank, type Pipeline, type RankStart } from "./session.js";
import { BlobSource, type Source } from "./source.js";
import { Store } from "./store.js";
import { UrlSource } from "./url.js";

let session: Session | undefined;
let pipeline: Pipeline | undefined;
let stopping: AbortController | undefined;

/** What was asked last: a model is not opened while another one answers. */
let last: Promise<unknown> = Promise.resolve();

onmessage = (event: MessageEvent<Request>) => {
  const request = event.data;
  if (request.type === "cancel") return stopping?.abort();
  const answer = (answer: Answer) => postMessage(answer);
  const served = last.then(() => serve(request, answer));
  last = served.catch(() => undefined);
  served.then(
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
      const { source, parts, from } = await openSource(request.source, signal, progress);
      session = await Session.start(source, {
        ...request.options,
        parts,
        signal,
        progress: throttled((loaded, total) => progress("load", loaded, total)),
        startRank: (start, stop) => startWorker(from, start, stop),
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
        const { source, parts } = await openSource(request.source);
        pipeline = await startRank(request.start, source, parts);
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

/** A file of a model that is open, where its other parts are, and what other ranks open in its place. */
interface OpenSource {
  readonly source: Source;
  readonly parts: Parts;
  readonly from: ModelSource;
}

async function openSource(from: ModelSource, signal?: AbortSignal, progress?: ProgressSink): Promise<OpenSource> {
  switch (from.kind) {
    case "file":
      return openFiles([from.file], from);
    case "files":
      return openFiles(from.files, from);
    case "stored":
      return openStored(from);
    case "url":
      return from.keep ? openKept(from, signal, progress) : openUrl(from, signal);
  }
}

function openFiles(files: readonly Blob[], from: ModelSource): OpenSource {
  const named = (file: Blob) => (file instanceof File ? file.name : "");
  const [first] = files;
  if (!first) throw new PolychordError("argument", "no file was chosen");
  const open = async (name: string) => {
    const file = files.find((file) => named(file) === name);
    if (!file) throw new PolychordError("file", "it was not chosen: choose or drop all parts of the model together");
    return new BlobSource(file);
  };
  return { source: new BlobSource(first), parts: { fileName: named(first), open }, from };
}

async function openStored(from: ModelSource & { kind: "stored" }): Promise<OpenSource> {
  const store = await Store.open();
  const open = async (name: string) => {
    const sha256 = from.others?.[name];
    if (!sha256) throw new PolychordError("storage", "it is not in storage");
    return store.source(sha256);
  };
  return { source: await store.source(from.sha256), parts: { fileName: from.name ?? "", open }, from };
}

async function openUrl(from: ModelSource & { kind: "url" }, signal?: AbortSignal): Promise<OpenSource> {
  const options = signal ? { signal } : {};
  const parts = { fileName: fileNameOf(from.url), open: (name: string) => UrlSource.open(siblingOf(from.url, name), options) };
  return { source: await UrlSource.open(from.url, options), parts, from };
}

/** Fetches what is not in storage; other ranks open what is there then. */
async function openKept(from: ModelSource & { kind: "url" }, signal?: AbortSignal, progress?: ProgressSink): Promise<OpenSource> {
  const store = await Store.open();
  const report = throttled((done, total, phase) => progress?.(phase!, done, total));
  const fetched = async (url: string, sha256?: string): Promise<string> => {
    const stored = await store.fetch(url, {
      ...(signal ? { signal } : {}),
      ...(sha256 ? { sha256 } : {}),
      progress: ({ phase, done, total }) => report(done, total, phase),
    });
    return stored.sha256!;
  };
  const sha256 = await fetched(from.url, from.sha256);
  const others: Record<string, string> = {};
  const open = async (name: string) => store.source((others[name] = await fetched(siblingOf(from.url, name))));
  const name = fileNameOf(from.url);
  return { source: await store.source(sha256), parts: { fileName: name, open }, from: { kind: "stored", sha256, name, others } };
}

/** A further rank in a worker of its own. */
async function startWorker(source: ModelSource, start: RankStart, signal: AbortSignal): Promise<OtherRank> {
  const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: `rank ${start.index}` });
  signal.addEventListener("abort", () => worker.terminate());
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
  if (error instanceof DOMException) {
    const message = `this browser's storage failed (${error.name}: ${error.message}): load the model without keeping it`;
    return new PolychordError("storage", message, { cause: error });
  }
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

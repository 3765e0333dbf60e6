// What a page uses: a model in a worker.

import type { Capabilities, Choice } from "./capabilities.js";
import { PolychordError } from "./errors.js";
import type { PagerStats } from "./pager.js";
import type { Placement } from "./placement.js";
import type { Answer, ModelSource, OpenOptions, Request } from "./protocol.js";
import type { GenerateOptions, Message, ModelInfo, Outcome } from "./session.js";

export type { Capabilities, Choice } from "./capabilities.js";
export { PolychordError, type ErrorKind } from "./errors.js";
export type { ModelSource, OpenOptions } from "./protocol.js";
export type { Message, ModelInfo, Outcome } from "./session.js";
export type { Placement } from "./placement.js";

/** A model that is open. */
export interface Opened {
  readonly info: ModelInfo;
  readonly placement: Placement;
  /** Why it is placed and computed like that. */
  readonly reasons: readonly string[];
  readonly flavor: "plain" | "relaxed";
  readonly ranks: number;
  /** Bytes of each linear memory of each guest. */
  readonly memoryBytes: number[][];
  /** The plan, as `polychord plan` writes it. */
  readonly plan: string;
}

/** How a generation went, and the memory that there is now. */
export interface Generated extends Outcome {
  readonly memoryBytes: number[][];
  readonly paging: PagerStats[];
}

type Request1 = Exclude<Request, { type: "cancel" }>;
/** A request without its number. */
type Unnumbered<T> = T extends { id: number } ? Omit<T, "id"> : never;

interface Waiting {
  resolve: (value: never) => void;
  reject: (error: unknown) => void;
  progress: ((phase: string, done: number, total: number) => void) | undefined;
  token: ((text: string) => void) | undefined;
}

/** A worker with a model. */
export class Polychord {
  private worker: Worker | undefined;
  private next = 1;
  private readonly waiting = new Map<number, Waiting>();

  /** What this browser can do, and what is chosen for it. */
  capabilities(): Promise<{ can: Capabilities; choice: Choice }> {
    return this.send({ type: "capabilities" });
  }

  /** Opens a model, in place of the one that was open. `phase` is waiting, download, check or load. */
  open(source: ModelSource, options: OpenOptions = {}, progress?: (phase: string, done: number, total: number) => void): Promise<Opened> {
    return this.send({ type: "open", source, options }, { progress });
  }

  /** Answers a conversation, or continues a text, or tokens. */
  generate(
    what: { messages: Message[] } | { prompt: string } | { ids: number[] },
    options: Omit<GenerateOptions, "signal" | "pause"> = {},
    token?: (text: string) => void,
  ): Promise<Generated> {
    return this.send({ type: "generate", ...what, options }, { token });
  }

  /** Stops what is under way. */
  cancel(): void {
    this.worker?.postMessage({ type: "cancel" } satisfies Request);
  }

  /** Removes a model from storage. */
  remove(url: string): Promise<void> {
    return this.send({ type: "remove", url });
  }

  /** Gives back all memory, at once. */
  close(): void {
    this.worker?.terminate();
    this.end(new PolychordError("cancelled", "the model was closed"));
  }

  private send<T>(request: Unnumbered<Request1>, tell: { progress?: Waiting["progress"]; token?: Waiting["token"] } = {}): Promise<T> {
    this.worker ??= this.start();
    const id = this.next++;
    return new Promise<T>((resolve, reject) => {
      this.waiting.set(id, { resolve: resolve as never, reject, progress: tell.progress, token: tell.token });
      this.worker!.postMessage({ ...request, id });
    });
  }

  private start(): Worker {
    const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "polychord" });
    worker.onmessage = ({ data }: MessageEvent<Answer>) => {
      const waiting = this.waiting.get(data.id);
      if (data.type === "progress") return waiting?.progress?.(data.phase, data.done, data.total);
      if (data.type === "token") return waiting?.token?.(data.text);
      this.waiting.delete(data.id);
      if (data.type === "done") waiting?.resolve(data.value as never);
      else waiting?.reject(new PolychordError(data.kind, data.message));
    };
    worker.onerror = (event) => {
      event.preventDefault();
      this.end(new PolychordError("memory", `the worker has ended, probably for want of memory: ${event.message ?? "no reason given"}`));
    };
    return worker;
  }

  /** The worker is gone: nothing that was asked of it will be answered. */
  private end(error: PolychordError): void {
    this.worker = undefined;
    this.waiting.forEach(({ reject }) => reject(error));
    this.waiting.clear();
  }
}

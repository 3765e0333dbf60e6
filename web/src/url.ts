// A file on a server, read by HTTP range requests that go on after a break.

import { PolychordError } from "./errors.js";
import { ChunkReader, type Source } from "./source.js";

/** How requests are made. */
export interface UrlOptions {
  /** How often a request that broke is made again, without a byte in between, before it is an error. */
  retries?: number;
  /** Milliseconds before the first of them; twice as many before each further one. */
  retryDelay?: number;
  /** Milliseconds in which a byte has to come. */
  timeout?: number;
  signal?: AbortSignal;
}

/** A file on a server that has range requests. */
export class UrlSource implements Source {
  readonly parallel = 4;

  private constructor(
    readonly name: string,
    readonly bytes: number,
    /** By which the server tells this version of the file from others. */
    readonly version: string | undefined,
    private readonly options: UrlOptions,
  ) {}

  /** Asks for the first byte, and so for the length, and whether the server knows ranges at all. */
  static async open(url: string | URL, options: UrlOptions = {}): Promise<UrlSource> {
    const name = String(url);
    const response = await request(name, 0, 1, undefined, options).catch((error: unknown) => {
      if (!(error instanceof Broken)) throw error;
      throw new PolychordError("network", `${name} cannot be loaded now: ${error.message}`, { cause: error });
    });
    await response.body?.cancel();
    const range = /^bytes 0-0\/(\d+)$/.exec(response.headers.get("content-range") ?? "");
    if (response.status === 200) {
      throw new PolychordError(
        "network",
        `${name}: this server ignores range requests (it answered 200 in place of 206), so a model cannot be ` +
          "loaded in parts from it. Download the file and choose it here, or use another server.",
      );
    }
    if (!range) {
      throw new PolychordError(
        "network",
        `${name}: the server does not say how long the file is. If it is another host, it has to send ` +
          "Access-Control-Expose-Headers: Content-Range.",
      );
    }
    const version = response.headers.get("etag") ?? response.headers.get("last-modified") ?? undefined;
    return new UrlSource(name, Number(range[1]), version, options);
  }

  async read(start: number, into: Uint8Array): Promise<void> {
    await this.stream(start, into.byteLength, (chunk, at) => into.set(chunk, at));
  }

  /** Hands out a range chunk by chunk; after a break only what is missing is asked for again. */
  async stream(start: number, bytes: number, take: (chunk: Uint8Array, at: number) => void): Promise<void> {
    let at = 0;
    let failures = 0;
    while (at < bytes) {
      const before = at;
      try {
        const response = await request(this.name, start + at, bytes - at, this.version, this.options);
        at += await this.consume(response, start + at, bytes - at, (chunk, offset) => take(chunk, before + offset));
      } catch (error) {
        if (error instanceof Broken) {
          at += error.got;
          if (at > before) failures = 0;
          failures += 1;
          const most = this.options.retries ?? 5;
          if (failures > most) {
            throw new PolychordError(
              "network",
              `${this.name}: the connection broke ${failures} times at byte ${start + at} (${error.message}). ` +
                "What was loaded into storage is kept: try again later.",
              { cause: error },
            );
          }
          await pause((this.options.retryDelay ?? 250) * 2 ** (failures - 1), this.options.signal);
          continue;
        }
        throw error;
      }
    }
  }

  private async consume(
    response: Response,
    start: number,
    bytes: number,
    take: (chunk: Uint8Array, offset: number) => void,
  ): Promise<number> {
    const wrong = (what: string) =>
      new PolychordError("network", `${this.name}: the server sent ${what} for bytes ${start} to ${start + bytes - 1}.`);
    if (response.status === 200) {
      await response.body?.cancel();
      throw wrong("the whole file, or another version of it,");
    }
    const range = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(response.headers.get("content-range") ?? "");
    if (!range || Number(range[1]) !== start || Number(range[3]) !== this.bytes) {
      await response.body?.cancel();
      throw wrong(`another range (${response.headers.get("content-range") ?? "no Content-Range"})`);
    }
    if (!response.body) throw wrong("no body");
    const reader = new ChunkReader(response.body);
    let got = 0;
    try {
      while (got < bytes) {
        const chunk = await within(reader.next(), this.options.timeout ?? 30_000);
        if (!chunk) throw new Broken("it ended early", got);
        if (got + chunk.byteLength > bytes) throw wrong("more bytes than were asked for");
        take(chunk, got);
        got += chunk.byteLength;
      }
    } catch (error) {
      if (this.options.signal?.aborted) throw cancelled();
      if (error instanceof PolychordError) throw error;
      throw new Broken(error instanceof Error ? error.message : String(error), got);
    } finally {
      void reader.cancel().catch(() => undefined);
    }
    return got;
  }
}

/** A request that ended before its bytes came. */
class Broken extends Error {
  constructor(
    message: string,
    readonly got: number,
  ) {
    super(message);
  }
}

async function request(
  url: string,
  start: number,
  bytes: number,
  version: string | undefined,
  options: UrlOptions,
): Promise<Response> {
  const headers: Record<string, string> = { Range: `bytes=${start}-${start + bytes - 1}` };
  // Weak tags and dates of another origin may not be sent without a question beforehand.
  if (version?.startsWith('"') && sameOrigin(url)) headers["If-Range"] = version;
  let response: Response;
  try {
    const init: RequestInit = { headers, cache: "no-store", credentials: "omit" };
    if (options.signal) init.signal = options.signal;
    response = await within(fetch(url, init), options.timeout ?? 30_000);
  } catch (error) {
    if (options.signal?.aborted) throw cancelled();
    if (start === 0 && bytes === 1) {
      throw new PolychordError(
        "network",
        `${url} cannot be reached: there is no network, no such server, or it does not allow this page to read ` +
          "(Access-Control-Allow-Origin is missing).",
        { cause: error },
      );
    }
    throw new Broken(error instanceof Error ? error.message : String(error), 0);
  }
  if (response.status === 200 || response.status === 206) return response;
  await response.body?.cancel();
  if (response.status >= 500 || response.status === 429) throw new Broken(`HTTP ${response.status}`, 0);
  const why = response.status === 416 ? " (the file is empty, or shorter than it was)" : "";
  throw new PolychordError("network", `${url}: the server answered ${response.status} ${response.statusText}${why}`);
}

function sameOrigin(url: string): boolean {
  return typeof location !== "undefined" && new URL(url, location.href).origin === location.origin;
}

function cancelled(): PolychordError {
  return new PolychordError("cancelled", "loading was stopped");
}

async function within<T>(promise: Promise<T>, milliseconds: number): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`nothing came in ${milliseconds} ms`)), milliseconds);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

function pause(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => (clearTimeout(timer), reject(cancelled())), { once: true });
  });
}

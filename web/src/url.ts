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
    const name = addressOf(url).href;
    const response = await insist(options, () => request(name, 0, 1, undefined, options), (_, error) =>
      new PolychordError("network", `${name} cannot be loaded now: ${error.message}. Try again later.`, { cause: error }));
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
    const bytes = Number(range[1]);
    if (!Number.isSafeInteger(bytes)) {
      throw new PolychordError("network", `${name}: the server says that the file has ${range[1]} bytes, which no file has.`);
    }
    return new UrlSource(name, bytes, versionOf(response), options);
  }

  async read(start: number, into: Uint8Array): Promise<void> {
    await this.stream(start, into.byteLength, (chunk, at) => into.set(chunk, at));
  }

  /** Hands out a range chunk by chunk; after a break only what is missing is asked for again. */
  async stream(start: number, bytes: number, take: (chunk: Uint8Array, at: number) => void): Promise<void> {
    let at = 0;
    const took = (chunk: Uint8Array) => {
      take(chunk, at);
      at += chunk.byteLength;
    };
    const rest = async () => {
      if (at === bytes) return;
      const response = await request(this.name, start + at, bytes - at, this.version, this.options);
      await this.consume(response, start + at, bytes - at, took);
    };
    await insist(this.options, rest, (failures, error) =>
      new PolychordError(
        "network",
        `${this.name}: the connection broke ${failures} times at byte ${start + at} (${error.message}). ` +
          "What was loaded into storage is kept: try again later.",
        { cause: error },
      ));
  }

  private async consume(response: Response, start: number, bytes: number, take: (chunk: Uint8Array) => void): Promise<void> {
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
    const version = versionOf(response);
    if (this.version !== undefined && version !== undefined && version !== this.version) {
      await response.body?.cancel();
      throw new PolychordError(
        "network",
        `${this.name}: the file was exchanged on the server while it was loaded (${printable(version)} in place of ${printable(this.version)}). Load it again.`,
      );
    }
    if (!response.body) throw wrong("no body");
    const reader = new ChunkReader(response.body);
    let got = 0;
    try {
      while (got < bytes) {
        const chunk = await within(reader.next(), this.options.timeout ?? 30_000).catch((error: unknown) => {
          throw this.options.signal?.aborted ? cancelled() : new Broken(messageOf(error), got);
        });
        if (!chunk) throw new Broken("it ended early", got);
        if (got + chunk.byteLength > bytes) throw wrong("more bytes than were asked for");
        // What goes wrong here is no fault of the connection: storage that is full, say.
        take(chunk);
        got += chunk.byteLength;
      }
    } finally {
      void reader.cancel().catch(() => undefined);
    }
  }
}

/** The address that a text is, relative to the page. */
export function addressOf(url: string | URL): URL {
  let address: URL;
  try {
    address = new URL(url, globalThis.location?.href);
  } catch (error) {
    throw new PolychordError("argument", `'${url}' is no address of a file`, { cause: error });
  }
  if (!["http:", "https:", "blob:"].includes(address.protocol)) {
    throw new PolychordError("argument", `${url}: models come from addresses of http and https, and not of ${address.protocol} Choose the file in place of its address.`);
  }
  if (address.username || address.password) {
    throw new PolychordError("argument", "an address with a name and a password in it is not loaded: browsers do not send these");
  }
  return address;
}

/** A request that ended before its bytes came. */
class Broken extends Error {
  constructor(
    message: string,
    readonly got: number,
    /** Milliseconds that the server wants to be left alone. */
    readonly wait = 0,
  ) {
    super(message);
  }
}

/** Nothing came for too long. */
class Late extends Error {}

/** Most milliseconds that a server is waited for because it says so. */
const LONGEST_WAIT = 60_000;

/** Makes an attempt again after breaks, unless too many of them bring nothing. */
async function insist<T>(options: UrlOptions, attempt: () => Promise<T>, gaveUp: (failures: number, error: Broken) => PolychordError): Promise<T> {
  for (let failures = 1; ; failures += 1) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof Broken)) throw error;
      if (error.got > 0) failures = 1;
      if (failures > (options.retries ?? 5)) throw gaveUp(failures, error);
      await pause(Math.max(error.wait, (options.retryDelay ?? 250) * 2 ** (failures - 1)), options.signal);
    }
  }
}

/** By which a server tells versions of a file from each other. */
function versionOf(response: Response): string | undefined {
  return response.headers.get("etag") ?? response.headers.get("last-modified") ?? undefined;
}

/** What a server says, for people. */
function printable(text: string): string {
  return text.slice(0, 80).replace(/[^\x20-\x7e]/g, "?");
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
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
  // A request that is late is given up, and its connection with it.
  const late = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, late.signal]) : late.signal;
  let response: Response;
  try {
    response = await within(fetch(url, { headers, cache: "no-store", credentials: "omit", signal }), options.timeout ?? 30_000);
  } catch (error) {
    late.abort();
    if (options.signal?.aborted) throw cancelled();
    if (start === 0 && bytes === 1) throw unreachable(url, error);
    throw new Broken(messageOf(error), 0);
  }
  if (response.status === 200 || response.status === 206) return response;
  await response.body?.cancel();
  if (response.status >= 500 || response.status === 429) {
    const wait = Number(response.headers.get("retry-after")) * 1000 || 0;
    throw new Broken(`the server answered ${response.status}`, 0, Math.min(Math.max(wait, 0), LONGEST_WAIT));
  }
  throw new PolychordError("network", `${url}: the server answered ${response.status} ${response.statusText}${WHY[response.status] ?? ""}`);
}

/** What people may do about answers. */
const WHY: Record<number, string> = {
  401: " (it wants to know who asks, which is not supported: download the file, and choose it here)",
  403: " (it does not give this file to everyone: download it, and choose it here)",
  404: " (there is no such file)",
  416: " (the file is empty, or shorter than it was)",
};

function unreachable(url: string, error: unknown): PolychordError {
  const why = error instanceof Late
    ? `the server does not answer (${error.message})`
    : "there is no network, no such server, or it does not allow this page to read (Access-Control-Allow-Origin is missing)";
  const mixed = url.startsWith("http:") && globalThis.location?.protocol === "https:"
    ? " A page of https gets nothing from an address of http, either."
    : "";
  return new PolychordError("network", `${url} cannot be reached: ${why}.${mixed}`, { cause: error });
}

function sameOrigin(url: string): boolean {
  return globalThis.location !== undefined && new URL(url).origin === location.origin;
}

function cancelled(): PolychordError {
  return new PolychordError("cancelled", "loading was stopped");
}

async function within<T>(promise: Promise<T>, milliseconds: number): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Late(`nothing came in ${milliseconds} ms`)), milliseconds);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

function pause(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(cancelled());
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => (clearTimeout(timer), reject(cancelled())), { once: true });
  });
}

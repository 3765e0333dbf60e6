// Models in the storage of a browser (OPFS): under their SHA-256 when they are complete and checked, and
// under a name of their address while they come. For workers only, which have synchronous files.

import { initModel } from "./assets.js";
import { PolychordError } from "./errors.js";
import { Sha256, partNamesOf } from "./model/model.js";
import { fileNameOf, siblingOf } from "./parts.js";
import { BlobSource, PIECE, truncated, type Source } from "./source.js";
import { UrlSource, addressOf, type UrlOptions } from "./url.js";

/** A file that is read and written at once: TypeScript has it for workers only. */
interface SyncFile {
  read(into: Uint8Array, options: { at: number }): number;
  write(bytes: Uint8Array, options: { at: number }): number;
  truncate(bytes: number): void;
  getSize(): number;
  flush(): void;
  close(): void;
}

interface FileHandle extends FileSystemFileHandle {
  createSyncAccessHandle(options?: { mode: "read-only" }): Promise<SyncFile>;
  move?(name: string): Promise<void>;
}

/** What is known about a model in storage, or about a part of one. */
export interface StoredModel {
  readonly url: string;
  readonly bytes: number;
  /** By which the server tells this version of the file from others. */
  readonly version: string | null;
  /** Set when it is complete. */
  readonly sha256: string | null;
  /** Pieces that are there, while it comes. */
  readonly pieces: number[];
}

/** How a model comes into storage. */
export interface FetchOptions extends UrlOptions {
  /** What the SHA-256 of the file has to be. */
  sha256?: string;
  progress?: (progress: { phase: "waiting" | "download" | "check"; done: number; total: number }) => void;
}

const FOLDER = "polychord-models";

/** The models in storage. */
export class Store {
  private constructor(private readonly folder: FileSystemDirectoryHandle) {}

  static async open(): Promise<Store> {
    try {
      const root = await navigator.storage.getDirectory();
      return new Store(await root.getDirectoryHandle(FOLDER, { create: true }));
    } catch (error) {
      throw new PolychordError(
        "storage",
        `this browser gives no storage (${String(error)}): models are loaded anew each time. Private windows often have none.`,
        { cause: error },
      );
    }
  }

  /** The complete model of an address or of a hash. */
  async find(url: string, sha256?: string): Promise<StoredModel | undefined> {
    const stored = await this.describe(await keyOf(url));
    if (!stored?.sha256 || (sha256 && stored.sha256 !== sha256)) return undefined;
    return (await this.has(stored.sha256, stored.bytes)) ? stored : undefined;
  }

  /** Whether the file of a hash is there, and as long as it was when it was checked. */
  private async has(sha256: string, bytes: number): Promise<boolean> {
    const file = await (await this.handle(`${sha256}.gguf`))?.getFile();
    return file?.size === bytes;
  }

  /** Opens a complete model. */
  async source(sha256: string): Promise<Source> {
    const handle = await this.handle(`${sha256}.gguf`);
    if (!handle) throw new PolychordError("storage", `no model with the hash ${sha256} is in storage`);
    try {
      return new OpfsSource(sha256, await handle.createSyncAccessHandle({ mode: "read-only" }));
    } catch {
      // Another worker or tab has it, in a browser where readers exclude each other.
      return new BlobSource(await handle.getFile(), `the model ${sha256}`);
    }
  }

  /** Fetches a model, unless it is there; what was fetched before a break stays. */
  async fetch(url: string, options: FetchOptions = {}): Promise<StoredModel> {
    const address = addressOf(url).href;
    const key = await keyOf(address);
    const name = `polychord ${key}`;
    const get = async () => (await this.find(address, options.sha256)) ?? (await this.download(address, key, options));
    const got = await navigator.locks.request(name, { ifAvailable: true }, async (lock) => lock && (await get()));
    if (got) return got;
    // A second tab waits here, and finds the model then.
    options.progress?.({ phase: "waiting", done: 0, total: 0 });
    const { signal } = options;
    return navigator.locks.request(name, signal ? { signal } : {}, get).catch((error: unknown) => {
      throw signal?.aborted ? new PolychordError("cancelled", "loading was stopped") : error;
    });
  }

  /** Removes a model with all its parts, or what has come of it. */
  async remove(url: string): Promise<void> {
    await initModel();
    const names = partNamesOf(fileNameOf(url));
    for (const each of names.length > 0 ? names.map((name) => siblingOf(url, name)) : [url]) await this.removeFile(each);
  }

  /** What says where a file is goes last, so that what could not be removed can be found again. */
  private async removeFile(url: string): Promise<void> {
    const key = await keyOf(addressOf(url).href);
    const stored = await this.describe(key);
    for (const name of [stored?.sha256 ? `${stored.sha256}.gguf` : undefined, `${key}.part`, `${key}.json`]) {
      if (name) await this.folder.removeEntry(name).catch((error: unknown) => {
        if (!isMissing(error)) throw new PolychordError("storage", `${url} is in use, here or in another tab: close it there, and remove it then.`, { cause: error });
      });
    }
  }

  private async download(url: string, key: string, options: FetchOptions): Promise<StoredModel> {
    await initModel();
    const from = await UrlSource.open(url, options);
    return this.downloadFrom(from, url, key, options).catch((error: unknown) => {
      throw storageError(error, from.bytes);
    });
  }

  private async downloadFrom(from: UrlSource, url: string, key: string, options: FetchOptions): Promise<StoredModel> {
    let stored = await this.describe(key);
    const version = from.version ?? null;
    // Of another version nothing is of use.
    if (!stored || stored.bytes !== from.bytes || stored.version !== version || stored.sha256) {
      await this.folder.removeEntry(`${key}.part`).catch(() => undefined);
      stored = { url, bytes: from.bytes, version, sha256: null, pieces: [] };
    }
    await this.checkRoom(from.bytes - stored.pieces.length * PIECE);
    const handle = (await this.folder.getFileHandle(`${key}.part`, { create: true })) as FileHandle;
    const file = await handle.createSyncAccessHandle();
    let sha256: string;
    try {
      await this.fill(file, from, key, stored, options);
      sha256 = hashOf(file, from.bytes, (done) => options.progress?.({ phase: "check", done, total: from.bytes }));
    } finally {
      file.close();
    }
    if (options.sha256 && sha256 !== options.sha256) {
      await this.folder.removeEntry(`${key}.part`);
      await this.describeAs(key, { ...stored, pieces: [] });
      throw new PolychordError(
        "file",
        `${url} has the SHA-256 ${sha256}, and ${options.sha256} was expected: it was damaged on the way, or is another ` +
          "file. It was removed from storage.",
      );
    }
    // Another address may have had the same file, which may be open.
    if (await this.has(sha256, from.bytes)) await this.folder.removeEntry(`${key}.part`);
    else await this.rename(handle, `${sha256}.gguf`);
    const complete = { ...stored, sha256, pieces: [] };
    await this.describeAs(key, complete);
    return complete;
  }

  /** Fetches the pieces that are missing, several at a time, and writes down each that is there. */
  private async fill(file: SyncFile, from: UrlSource, key: string, stored: StoredModel, options: FetchOptions): Promise<void> {
    const there = new Set(stored.pieces);
    const count = Math.ceil(from.bytes / PIECE);
    const missing = Array.from({ length: count }, (_, index) => index).filter((index) => !there.has(index));
    if (file.getSize() < from.bytes) file.truncate(from.bytes);
    const sizeOf = (index: number) => Math.min(PIECE, from.bytes - index * PIECE);
    let done = [...there].reduce((sum, index) => sum + sizeOf(index), 0);
    let failed: unknown;
    const next = async () => {
      for (let index = missing.shift(); index !== undefined && failed === undefined; index = missing.shift()) {
        const start = index * PIECE;
        try {
          await from.stream(start, sizeOf(index), (chunk, at) => {
            if (file.write(chunk, { at: start + at }) !== chunk.byteLength) throw new PolychordError("storage", "storage is full");
            done += chunk.byteLength;
            options.progress?.({ phase: "download", done, total: from.bytes });
          });
          // Bytes first, then that they are there.
          file.flush();
          there.add(index);
        } catch (error) {
          failed ??= error;
        }
      }
    };
    // What is not written down comes again, which is no reason to fail.
    const save = () => this.describeAs(key, { ...stored, pieces: [...there] }).catch(() => undefined);
    const saving = setInterval(() => void save(), 1000);
    await Promise.all(Array.from({ length: from.parallel }, next));
    clearInterval(saving);
    await save();
    if (failed !== undefined) throw failed;
  }

  private async checkRoom(bytes: number): Promise<void> {
    const { quota, usage } = await navigator.storage.estimate();
    if (quota === undefined || usage === undefined || bytes <= quota - usage) return;
    throw new PolychordError(
      "storage",
      `the model needs ${bytes} bytes of storage, and this browser gives ${quota - usage} more to this page: free space on ` +
        "the disk, remove other models, or load it without keeping it.",
    );
  }

  private async rename(handle: FileHandle, name: string): Promise<void> {
    await this.folder.removeEntry(name).catch(() => undefined);
    if (!handle.move) throw new PolychordError("storage", "this browser cannot rename files in storage: it is too old");
    await handle.move(name);
  }

  private async handle(name: string): Promise<FileHandle | undefined> {
    return this.folder.getFileHandle(name).then((handle) => handle as FileHandle, () => undefined);
  }

  private async describe(key: string): Promise<StoredModel | undefined> {
    const file = await (await this.handle(`${key}.json`))?.getFile();
    try {
      return file && (JSON.parse(await file.text()) as StoredModel);
    } catch {
      // It was being written when the page went away.
      return undefined;
    }
  }

  private async describeAs(key: string, stored: StoredModel): Promise<void> {
    const handle = (await this.folder.getFileHandle(`${key}.json`, { create: true })) as FileHandle;
    const file = await handle.createSyncAccessHandle().catch(() => undefined);
    // Another write is under way; the next one will say more.
    if (!file) return;
    const bytes = new TextEncoder().encode(JSON.stringify(stored));
    try {
      file.truncate(0);
      file.write(bytes, { at: 0 });
      file.flush();
    } finally {
      file.close();
    }
  }
}

/** A model in storage, read straight to where its bytes go. */
class OpfsSource implements Source {
  readonly bytes: number;
  readonly name: string;

  constructor(
    sha256: string,
    private readonly file: SyncFile,
  ) {
    this.name = `the model ${sha256}`;
    this.bytes = file.getSize();
  }

  readSync(start: number, into: Uint8Array): void {
    const got = this.file.read(into, { at: start });
    if (got < into.byteLength) throw truncated(this.name, start, into.byteLength, got);
  }

  read(start: number, into: Uint8Array): Promise<void> {
    this.readSync(start, into);
    return Promise.resolve();
  }

  close(): void {
    this.file.close();
  }
}

function hashOf(file: SyncFile, bytes: number, progress: (done: number) => void): string {
  const hash = new Sha256();
  const buffer = new Uint8Array(1 << 20);
  try {
    for (let at = 0; at < bytes; ) {
      const part = buffer.subarray(0, Math.min(buffer.byteLength, bytes - at));
      const got = file.read(part, { at });
      if (got < part.byteLength) throw truncated("storage", at, part.byteLength, got);
      hash.update(part);
      at += got;
      progress(at);
    }
    return hash.hex();
  } finally {
    hash.free();
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof DOMException && error.name === "NotFoundError";
}

/** A name for an address. */
async function keyOf(url: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(url));
  return Array.from(new Uint8Array(digest, 0, 16), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function storageError(error: unknown, bytes: number): unknown {
  if (error instanceof DOMException && error.name === "QuotaExceededError") {
    return new PolychordError("storage", `storage is full: the model takes ${bytes} bytes. Free space, or load it without keeping it.`, {
      cause: error,
    });
  }
  if (error instanceof DOMException) {
    return new PolychordError("storage", `this browser's storage failed (${error.name}: ${error.message}): load the model without keeping it`, {
      cause: error,
    });
  }
  return error;
}

// Where the bytes of a model come from.

import { PolychordError } from "./errors.js";

/** A file of known length that is read by ranges. */
export interface Source {
  /** Its name for people. */
  readonly name: string;
  /** Its length. */
  readonly bytes: number;
  /** Fills `into` with what is at `start`; without a copy in between where that is possible. */
  read(start: number, into: Uint8Array): Promise<void>;
  /** The same at once, where the source can: layers that guests ask for in a call, and paging, need it. */
  readSync?(start: number, into: Uint8Array): void;
  /** How many reads are worth having under way at once; 1 if it is not said. */
  readonly parallel?: number;
  /** Gives back what is open. */
  close?(): void | Promise<void>;
}

/** Most bytes that are asked of a source at once, so that progress is seen and views stay small. */
export const PIECE = 8 << 20;

/** The error of a source that ended early. */
export function truncated(name: string, start: number, wanted: number, got: number): PolychordError {
  return new PolychordError(
    "file",
    `${name} ended early: ${wanted} bytes were expected at ${start}, and there were ${got}. ` +
      "The file has changed or was not copied completely.",
  );
}

/** What engines have of late, and TypeScript does not know everywhere. */
interface Transferable {
  transfer?(bytes: number): ArrayBuffer;
}

/**
 * Reads a stream chunk by chunk, each of which is valid until the next one: its memory is given back then, and
 * not when garbage is collected, until when all chunks would be a second copy of a model.
 */
export class ChunkReader {
  private readonly reader: ReadableStreamDefaultReader<Uint8Array>;
  private last: Uint8Array | undefined;

  constructor(stream: ReadableStream<Uint8Array>) {
    this.reader = stream.getReader();
  }

  /** The next chunk; none at the end. */
  async next(): Promise<Uint8Array | undefined> {
    this.release();
    this.last = (await this.reader.read()).value;
    return this.last;
  }

  async cancel(): Promise<void> {
    this.release();
    await this.reader.cancel();
  }

  private release(): void {
    (this.last?.buffer as unknown as Transferable | undefined)?.transfer?.(0);
    this.last = undefined;
  }
}

/** Bytes that are in memory already: for tests and small models. */
export class BytesSource implements Source {
  readonly bytes: number;

  constructor(
    private readonly data: Uint8Array,
    readonly name = "bytes in memory",
  ) {
    this.bytes = data.byteLength;
  }

  read(start: number, into: Uint8Array): Promise<void> {
    this.readSync(start, into);
    return Promise.resolve();
  }

  readSync(start: number, into: Uint8Array): void {
    const part = this.data.subarray(start, start + into.byteLength);
    if (part.byteLength < into.byteLength) throw truncated(this.name, start, into.byteLength, part.byteLength);
    into.set(part);
  }
}

/** A file that was chosen or dropped, or any other blob. */
export class BlobSource implements Source {
  readonly bytes: number;
  readonly parallel = 2;

  constructor(
    private readonly blob: Blob,
    readonly name = blob instanceof File ? blob.name : "a blob",
  ) {
    this.bytes = blob.size;
  }

  async read(start: number, into: Uint8Array): Promise<void> {
    const part = this.blob.slice(start, start + into.byteLength);
    if (part.size < into.byteLength) throw truncated(this.name, start, into.byteLength, part.size);
    let at = 0;
    try {
      const reader = new ChunkReader(part.stream());
      for (let chunk = await reader.next(); chunk; chunk = await reader.next()) {
        into.set(chunk, at);
        at += chunk.byteLength;
      }
    } catch (error) {
      throw new PolychordError(
        "file",
        `${this.name} cannot be read any more: it was changed, moved or removed after it was chosen. Choose it again.`,
        { cause: error },
      );
    }
    if (at < into.byteLength) throw truncated(this.name, start, into.byteLength, at);
  }
}

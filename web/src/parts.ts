// Models that are split over several files: any of them opens them all.

import { initModel } from "./assets.js";
import { PolychordError } from "./errors.js";
import { Header, Model, partStarts } from "./model/model.js";
import type { Source } from "./source.js";
import { addressOf } from "./url.js";

/** Where the other parts of a model are, given one of them. */
export interface Parts {
  /** The name of the file that was named, without a path. */
  readonly fileName: string;
  /** Opens the part of that name. */
  open(fileName: string): Promise<Source>;
}

/** A model and where its bytes are: one file, or all its parts. */
export interface Whole {
  readonly model: Model;
  readonly source: Source;
}

/** Beginnings of files that are tried for a header. */
const FIRST_HEAD = 256 << 10;
/** The longest header that `model` reads. */
const LONGEST_HEAD = 256 << 20;

/** Reads the header of a model, and opens its other parts if it is split over several files. */
export async function openWhole(source: Source, parts?: Parts): Promise<Whole> {
  await initModel();
  const header = await readHeader(source);
  const named = explained(source.name, () => header.partNames(parts?.fileName ?? source.name));
  if (named.length === 0) return { model: explained(source.name, () => new Model([header])), source };
  const own = parts?.fileName ?? source.name;
  const sources: Source[] = [];
  try {
    for (const [index, name] of named.entries()) {
      sources.push(name === own ? source : await openPart(parts, name, index, named.length));
    }
    const headers: Header[] = [];
    for (const part of sources) headers.push(part === source ? header : await readHeader(part));
    const whole = new JoinedSource(sources);
    return { model: explained(whole.name, () => new Model(headers)), source: whole };
  } catch (error) {
    for (const part of sources) if (part !== source) await part.close?.();
    throw error;
  }
}

/** The name of the file at an address. */
export function fileNameOf(url: string): string {
  const path = addressOf(url).pathname;
  const name = path.slice(path.lastIndexOf("/") + 1);
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}

/** The address of a file beside another, with what that one has behind a question mark. */
export function siblingOf(url: string, fileName: string): string {
  const sibling = addressOf(url);
  sibling.pathname = sibling.pathname.slice(0, sibling.pathname.lastIndexOf("/") + 1) + encodeURIComponent(fileName);
  return sibling.href;
}

async function openPart(parts: Parts | undefined, name: string, index: number, count: number): Promise<Source> {
  try {
    if (!parts) throw new PolychordError("argument", "only one file was given");
    return await parts.open(name);
  } catch (error) {
    const { kind, message } = PolychordError.from(error, "file");
    if (kind === "cancelled") throw error;
    throw new PolychordError(kind, `part ${index + 1} of ${count} of this model, ${name}, cannot be opened: ${message}`, { cause: error });
  }
}

/** Reads the header of a file: as much of it as it takes. */
async function readHeader(source: Source): Promise<Header> {
  let head = new Uint8Array(0);
  for (let bytes = FIRST_HEAD; ; bytes *= 4) {
    const wanted = Math.min(bytes, source.bytes, LONGEST_HEAD + 1);
    const longer = new Uint8Array(wanted);
    longer.set(head);
    await source.read(head.byteLength, longer.subarray(head.byteLength));
    head = longer;
    const header = explained(source.name, () => Header.read(head, source.bytes));
    if (header) return header;
    if (wanted > LONGEST_HEAD) throw new PolychordError("file", `${source.name}: its header is longer than ${LONGEST_HEAD} bytes`);
  }
}

function explained<T>(name: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw new PolychordError("file", `${name}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

/** All parts of a model as one file, in which each begins where the crate `model` says. */
class JoinedSource implements Source {
  readonly name: string;
  readonly bytes: number;
  readonly parallel: number;
  readSync?: (start: number, into: Uint8Array) => void;
  private readonly starts: Float64Array;

  constructor(private readonly parts: readonly Source[]) {
    this.name = `${parts[0]!.name} and its ${parts.length - 1} other part(s)`;
    this.starts = partStarts(Float64Array.from(parts, (part) => part.bytes));
    this.bytes = this.starts.at(-1)! + parts.at(-1)!.bytes;
    this.parallel = Math.min(...parts.map((part) => part.parallel ?? 1));
    if (parts.every((part) => part.readSync)) {
      this.readSync = (start, into) => {
        const [part, at] = this.find(start, into.byteLength);
        part.readSync!(at, into);
      };
    }
  }

  async read(start: number, into: Uint8Array): Promise<void> {
    const [part, at] = this.find(start, into.byteLength);
    await part.read(at, into);
  }

  async close(): Promise<void> {
    for (const part of this.parts) await part.close?.();
  }

  /** No layer is in two parts. */
  private find(start: number, bytes: number): [Source, number] {
    const index = this.starts.findLastIndex((it) => it <= start);
    const part = this.parts[index];
    const at = start - (this.starts[index] ?? 0);
    if (!part || at + bytes > part.bytes) {
      throw new PolychordError("file", `${this.name}: ${bytes} bytes at ${start} are in no part`);
    }
    return [part, at];
  }
}

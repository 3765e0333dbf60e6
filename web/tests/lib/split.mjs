// Divides a GGUF file into parts, as `gguf-split` does it: each is a GGUF file with some of the tensors, and
// the first has the metadata.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Bytes of values, by their type; strings and arrays have lengths of their own. */
const SIZES = [1, 1, 2, 2, 4, 4, 4, 1, undefined, undefined, 8, 8, 8];
const [STRING, ARRAY] = [8, 9];
const ALIGNMENT = 32;

class Reader {
  at = 0;

  constructor(bytes) {
    this.bytes = bytes;
  }

  u32() {
    return this.bytes.readUInt32LE((this.at += 4) - 4);
  }

  u64() {
    return Number(this.bytes.readBigUInt64LE((this.at += 8) - 8));
  }

  string() {
    const length = this.u64();
    return this.bytes.toString("utf8", this.at, (this.at += length));
  }

  skip(type) {
    if (type === STRING) this.string();
    else if (type === ARRAY) {
      const [of, count] = [this.u32(), this.u64()];
      for (let index = 0; index < count; index += 1) this.skip(of);
    } else this.at += SIZES[type];
  }
}

const u32 = (number) => Buffer.from(Uint32Array.of(number).buffer);
const u64 = (number) => Buffer.from(BigUint64Array.of(BigInt(number)).buffer);
const text = (string) => [u64(Buffer.byteLength(string)), Buffer.from(string)];
const aligned = (bytes) => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
const number = (key, type, bytes) => Buffer.concat([...text(key), u32(type), bytes]);

/** The head of a model whose chat template is another, and how many bytes more it has than that of the file. */
export function withTemplate(head, template) {
  const from = new Reader(head);
  from.at = 8;
  from.u64();
  const keys = from.u64();
  for (let key = 0; key < keys; key += 1) {
    const name = from.string();
    const type = from.u32();
    const begin = from.at;
    from.skip(type);
    if (name !== "tokenizer.chat_template") continue;
    const changed = Buffer.concat([head.subarray(0, begin), u64(template.length), template, head.subarray(from.at)]);
    return { head: changed, more: changed.length - head.length };
  }
  throw new Error("it has no template");
}

/** Writes the parts of a model of that alignment into a folder; their paths, in order. */
export function split(file, folder, stem, count) {
  const bytes = readFileSync(file);
  const from = new Reader(bytes);
  from.at = 8;
  const [tensors, keys] = [from.u64(), from.u64()];
  const begin = from.at;
  for (let key = 0; key < keys; key += 1) {
    from.string();
    from.skip(from.u32());
  }
  const metadata = bytes.subarray(begin, from.at);
  const all = Array.from({ length: tensors }, () => {
    const name = from.string();
    const shape = Array.from({ length: from.u32() }, () => from.u64());
    return { name, shape, type: from.u32(), offset: from.u64() };
  });
  const data = aligned(from.at);
  // Each ends where the next one in the file begins.
  const ends = [...all.map((it) => it.offset), bytes.length - data].sort((a, b) => a - b);
  for (const tensor of all) tensor.bytes = ends.find((end) => end > tensor.offset) - tensor.offset;
  const each = Math.ceil(tensors / count);
  return Array.from({ length: count }, (_, part) => {
    const own = all.slice(part * each, (part + 1) * each);
    const split = [number("split.no", 2, u32(part).subarray(0, 2)), number("split.count", 2, u32(count).subarray(0, 2)), number("split.tensors.count", 5, u32(tensors))];
    let next = 0;
    const infos = own.map((it) => {
      const info = Buffer.concat([...text(it.name), u32(it.shape.length), ...it.shape.map(u64), u32(it.type), u64(next)]);
      next += aligned(it.bytes);
      return info;
    });
    const head = Buffer.concat([Buffer.from("GGUF"), u32(3), u64(own.length), u64((part === 0 ? keys : 0) + 3), ...(part === 0 ? [metadata] : []), ...split, ...infos]);
    const pieces = [head, Buffer.alloc(aligned(head.length) - head.length)];
    for (const it of own) pieces.push(bytes.subarray(data + it.offset, data + it.offset + it.bytes), Buffer.alloc(aligned(it.bytes) - it.bytes));
    const path = join(folder, partName(stem, part, count));
    writeFileSync(path, Buffer.concat(pieces));
    return path;
  });
}

/** The name of a part, counted from 0. */
export function partName(stem, part, count) {
  const digits = (number) => String(number).padStart(5, "0");
  return `${stem}-${digits(part + 1)}-of-${digits(count)}.gguf`;
}

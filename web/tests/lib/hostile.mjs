// Headers of GGUF files that say impossible things, each beginning as that of a model does.

const u32 = (number) => Buffer.from(Uint32Array.of(number).buffer);
const u64 = (number) => Buffer.from(BigUint64Array.of(BigInt.asUintN(64, BigInt(number))).buffer);
const text = (string) => Buffer.concat([u64(Buffer.byteLength(string)), Buffer.from(string)]);
const start = (tensors, keys, version = 3) => Buffer.concat([Buffer.from("GGUF"), u32(version), u64(tensors), u64(keys)]);
const MOST = 2n ** 64n - 1n;
const [UINT32, STRING, ARRAY] = [4, 8, 9];

/** Names and bytes. */
export function* hostileHeads(model) {
  yield ["a version that does not exist", start(0, 0, 99)];
  yield ["a file of the other byte order", Buffer.concat([Buffer.from("GGUF"), Buffer.from([0, 0, 0, 3]), u64(0), u64(0)])];
  yield ["as many tensors as can be", start(MOST, 0)];
  yield ["as many keys as can be", start(0, MOST)];
  yield ["a million tensors of which none is there", start(1_000_000, 0)];
  yield ["a key of 2^60 bytes", Buffer.concat([start(0, 1), u64(2n ** 60n), Buffer.alloc(64, 97)])];
  yield ["a string of 2^63 bytes", Buffer.concat([start(0, 1), text("general.name"), u32(STRING), u64(2n ** 63n), Buffer.alloc(64, 97)])];
  yield ["an array of 2^61 numbers", Buffer.concat([start(0, 1), text("a"), u32(ARRAY), u32(UINT32), u64(2n ** 61n), Buffer.alloc(64)])];
  yield ["an array of 2^40 strings", Buffer.concat([start(0, 1), text("a"), u32(ARRAY), u32(STRING), u64(2n ** 40n), Buffer.alloc(64)])];
  const nested = Array.from({ length: 100_000 }, () => [u32(ARRAY), u64(1)]).flat();
  yield ["100,000 arrays in each other", Buffer.concat([start(0, 1), text("a"), u32(ARRAY), ...nested, u32(UINT32), u64(0)])];
  yield ["a type of values that does not exist", Buffer.concat([start(0, 1), text("a"), u32(4096), Buffer.alloc(64)])];
  const tensor = (shape, type, offset) => Buffer.concat([text("token_embd.weight"), u32(shape.length), ...shape.map(u64), u32(type), u64(offset)]);
  yield ["a tensor of 2^32 - 1 dimensions", Buffer.concat([start(1, 0), text("t"), u32(2 ** 32 - 1), Buffer.alloc(256, 1)])];
  yield ["a tensor whose size overflows", Buffer.concat([start(1, 0), tensor([2n ** 32n, 2n ** 32n, 2n ** 32n], 0, 0), Buffer.alloc(64)])];
  yield ["a tensor behind the end", Buffer.concat([start(1, 0), tensor([32, 32], 0, 2n ** 63n), Buffer.alloc(64)])];
  yield ["no network at all", Buffer.concat([start(0, 0), Buffer.alloc(64)])];
  for (const [key, number] of [
    ["llama.block_count", 0], ["llama.block_count", 2 ** 31], ["llama.embedding_length", 0], ["llama.embedding_length", 2 ** 32 - 1],
    ["llama.attention.head_count", 0], ["llama.attention.head_count", 7], ["llama.attention.head_count_kv", 5], ["llama.feed_forward_length", 2 ** 32 - 1],
    ["llama.context_length", 0],
  ]) {
    yield [`${key} is ${number}`, withNumber(model, key, number)];
  }
}

/** The header of a model with another number for a key. */
function withNumber(model, key, number) {
  const at = model.indexOf(text(key));
  if (at < 0) throw new Error(`the model has no ${key}`);
  const value = at + 8 + key.length;
  if (model.readUInt32LE(value) !== UINT32) throw new Error(`${key} is no number of 32 bits`);
  const changed = Buffer.from(model);
  changed.writeUInt32LE(number, value + 4);
  return changed;
}

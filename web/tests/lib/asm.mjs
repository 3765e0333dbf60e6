// The smallest modules of WebAssembly that tests need.

const leb = (number) => {
  const bytes = [];
  do {
    const low = number & 0x7f;
    number >>>= 7;
    bytes.push(number ? low | 0x80 : low);
  } while (number);
  return bytes;
};
const name = (text) => [...leb(text.length), ...new TextEncoder().encode(text)];
const vector = (items) => [...leb(items.length), ...items.flat()];
const section = (id, items) => {
  const bytes = vector(items);
  return [id, ...leb(bytes.length), ...bytes];
};
const TYPES = { i32: 0x7f, i64: 0x7e };

/** A guest that exports its memory of `pages` pages, and the functions of `env` that it imports. */
export function probe(imports, pages, is64) {
  const all = Object.entries(imports);
  const address = is64 ? "i64" : "i32";
  const types = all.map(([, [params, result]]) => [
    0x60,
    ...vector(params.map((type) => [TYPES[type === "addr" ? address : type]])),
    ...vector([[TYPES[result]]]),
  ]);
  return new Uint8Array([
    0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00,
    ...section(1, types),
    ...section(2, all.map(([it], index) => [...name("env"), ...name(it), 0x00, ...leb(index)])),
    ...section(5, [[is64 ? 0x04 : 0x00, ...leb(pages)]]),
    ...section(7, [[...name("memory"), 0x02, 0x00], ...all.map(([it], index) => [...name(it), 0x00, ...leb(index)])]),
  ]);
}

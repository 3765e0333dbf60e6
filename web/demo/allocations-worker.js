// One trial: makes memories, fills each region with numbers of its own, and reads all of them back.

const PAGE = 65_536;
const STEP = 1 << 20;

onmessage = ({ data: { is64, gib, regions } }) => {
  try {
    postMessage({ ok: true, text: attempt(is64, gib * 2 ** 30, regions) });
  } catch (error) {
    const why = error instanceof RangeError ? "this browser or machine gives no more" : "it went wrong";
    postMessage({ ok: false, text: `${why} (${String(error)})` });
  }
};

function attempt(is64, bytes, regions) {
  const began = performance.now();
  const count = is64 ? 1 : Math.ceil(bytes / 2 ** 32);
  const memories = Array.from({ length: count }, () => {
    const pages = Math.ceil(bytes / count / PAGE);
    const number = is64 ? BigInt : Number;
    const memory = new WebAssembly.Memory({ address: is64 ? "i64" : "i32", initial: number(0), maximum: number(pages) });
    memory.grow(number(pages));
    return memory;
  });
  // Numbers differ by memory, region and place, so that no two bytes may be the same ones.
  const each = (use) => {
    memories.forEach((memory, index) => {
      const size = memory.buffer.byteLength;
      for (let at = 0; at < size; at += STEP) {
        const region = Math.floor((at / size) * regions);
        use(new Uint32Array(memory.buffer, at, Math.min(STEP, size - at) / 4), (index * 16 + region) * 0x1000193 + at / STEP);
      }
    });
  };
  const last = (words) => words.length - 1;
  each((words, seed) => {
    for (let word = 0; word < words.length; word += 1024) words[word] = seed + word;
    words[last(words)] = ~seed;
  });
  each((words, seed) => {
    for (let word = 0; word < words.length; word += 1024) {
      if (words[word] !== (seed + word) >>> 0) throw new Error(`wrong number in a region (${seed})`);
    }
    if (words[last(words)] !== ~seed >>> 0) throw new Error(`wrong number at the end of a region (${seed})`);
  });
  return `filled and read back, a number in every 4 KiB, in ${(performance.now() - began).toFixed(0)} ms`;
}

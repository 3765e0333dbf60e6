// Times wllama, which is llama.cpp as WebAssembly, in Node.
//
//   node bench.mjs PACKAGES BUILD MODEL.gguf TEXT DECODE [THREADS]
//
// PACKAGES is a node_modules folder; BUILD is wasm64 (needs Node 24 with
// --experimental-wasm-jspi) or compat (needs Node without it). Prints what
// scripts/peers/programs.py describes, by the clock of llama.cpp itself.

import { openAsBlob, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Worker as Thread } from 'node:worker_threads';

const [packages, build, model, prompt, decode, threads = '1'] = process.argv.slice(2);
const wllamaFolder = resolve(packages, '@wllama/wllama/esm');
const compatFolder = resolve(packages, '@wllama/wllama-compat/wasm');

// wllama is made for browsers: what it asks of one, in terms of Node.
globalThis.self = globalThis;
globalThis.navigator ??= { userAgent: 'Node' };
globalThis.location ??= { href: pathToFileURL(wllamaFolder + '/').href };
const sources = new Map();
/** Its code for threads is a blob, of which Node's threads cannot be made. */
let threadCode;
const PlainBlob = globalThis.Blob;
globalThis.Blob = class extends PlainBlob {
  constructor(parts, options) {
    super(parts, options);
    if (options?.type === 'text/javascript') threadCode = parts.join('');
  }
};
URL.createObjectURL = (blob) => {
  const url = `blob:${sources.size}`;
  sources.set(url, blob);
  return url;
};
globalThis.Worker = class {
  #thread;
  #waiting = [];

  constructor(url) {
    sources.get(url).text().then((code) => {
      this.#thread = new Thread(WORKER_PRELUDE + code, { eval: true, workerData: { threadCode } });
      this.#thread.on('message', (data) => this.onmessage({ data }));
      this.#thread.on('error', (error) => this.onerror(error));
      for (const message of this.#waiting) this.#thread.postMessage(...message);
    });
  }

  postMessage(data, options) {
    const message = [data, options?.transfer];
    if (this.#thread) this.#thread.postMessage(...message);
    else this.#waiting.push(message);
  }

  terminate() {
    this.#thread.terminate();
  }
};
const WORKER_PRELUDE = `
  const { parentPort } = require('node:worker_threads');
  globalThis.self = globalThis;
  globalThis.onmessage = null;
  globalThis.navigator ??= { userAgent: 'Node' };
  globalThis.postMessage = (data, transfer) => parentPort.postMessage(data, transfer);
  parentPort.on('message', (data) => globalThis.onmessage({ data }));
  {
    const threads = require('node:worker_threads');
    const { Worker, workerData } = threads;
    threads.Worker = class extends Worker {
      constructor(_, options) {
        const prelude = 'globalThis.self = globalThis; globalThis.navigator ??= { userAgent: "Node" };';
        super(prelude + workerData.threadCode, { ...options, eval: true });
      }
    };
    globalThis.Worker = threads.Worker;
  }
`;

const { Wllama } = await import(pathToFileURL(join(wllamaFolder, 'index.js')));
const quiet = () => {};
const wllama = new Wllama(
  { default: pathToFileURL(join(wllamaFolder, 'wasm/wllama.wasm')).href },
  // No cache of downloads: the model is a file.
  { cacheManager: {}, logger: { debug: quiet, log: quiet, warn: quiet, error: console.error } }
);
wllama.setCompat(
  build === 'compat'
    ? {
        worker: { code: readFileSync(join(compatFolder, 'wllama.js'), 'utf8') },
        wasm: pathToFileURL(join(compatFolder, 'wllama.wasm')).href,
      }
    : null
);
const count = Number(decode) + 1;
await wllama.loadModel([await openAsBlob(model)], {
  n_threads: Number(threads),
  n_gpu_layers: 0,
  n_ctx: 256,
  n_batch: 256,
  n_parallel: 1,
  warmup: false,
});
const { timings } = await wllama.createCompletion({
  prompt,
  max_tokens: count,
  temperature: 0,
  ignore_eos: true,
});
if (timings.predicted_n !== count) throw new Error(`${timings.predicted_n} tokens of ${count}`);
console.log(
  JSON.stringify({
    prompt_tokens: timings.prompt_n,
    prompt_ms: timings.prompt_ms,
    // Counted from the first token on, which the prompt gives.
    decode_ms: timings.predicted_ms,
  })
);
process.exit(0);

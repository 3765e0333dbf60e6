// The engine of this browser for the conformance suite: each message brings an answer and gets a command.

import { capabilities } from "/dist/index.js";
import { features, parse, serve } from "/tests/lib/executor.mjs";

const can = await capabilities();
const [, name, version] = /(Firefox|Chrome)\/([\d.]+)/.exec(navigator.userAgent);

// A worker that waits for memory hears of nothing else, so another one has the connection.
const relay = new Worker("/tests/executor-relay.js");
await new Promise((resolve) => (relay.onmessage = resolve));
const shared = new SharedArrayBuffer(8 + (4 << 20));
relay.postMessage(shared);
relay.postMessage(JSON.stringify(can));
const [words, piece] = [new Int32Array(shared, 0, 2), new Uint8Array(shared, 8)];

/** Waits for a piece of the next frame; the length of the frame, below zero at the end. */
function next() {
  Atomics.wait(words, 0, 0);
  Atomics.store(words, 0, 0);
  return words[1];
}

function exchange(bytes) {
  relay.postMessage(bytes, [bytes.buffer]);
  const length = next();
  if (length < 0) return undefined;
  const frame = new Uint8Array(length);
  for (let at = 0; at < length; at += piece.byteLength) {
    if (at > 0) {
      relay.postMessage(undefined);
      next();
    }
    frame.set(piece.subarray(0, Math.min(piece.byteLength, length - at)), at);
  }
  return parse(frame);
}

serve(exchange, { engine: name === "Chrome" ? "chromium" : "firefox", version, ...features(can) });

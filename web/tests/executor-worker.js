// The engine of this browser for the conformance suite: each request brings an answer and gets a command.

import { capabilities } from "/dist/index.js";
import { parse, serve } from "/tests/lib/executor.mjs";

const can = await capabilities();
const [, name, version] = /(Firefox|Chrome)\/([\d.]+)/.exec(navigator.userAgent);
const features = { multiMemory: can.multiMemory.ok, memory64: can.memory64.ok, relaxedSimd: can.relaxedSimd.ok };

function exchange(bytes) {
  const request = new XMLHttpRequest();
  request.open("POST", "/exchange", false);
  request.responseType = "arraybuffer";
  request.send(bytes);
  return request.status === 200 ? parse(new Uint8Array(request.response)) : undefined;
}

serve(exchange, { engine: name === "Chrome" ? "chromium" : "firefox", version, ...features });

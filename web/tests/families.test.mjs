// Networks that keep more or less than keys and values of all positions, in Node: a sequence that was cut
// goes on with the bits of one that was never longer, and guests that share a network have those of one.
// POLYCHORD_FAMILIES is a folder that the example make_families has filled. Run with `node --test`.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";

import { startSession } from "../dist/node.js";

const folder = process.env.POLYCHORD_FAMILIES;
const prompt = Array.from({ length: 150 }, (_, index) => (index * 7 + 3) % 61);
const tail = [5, 11, 2];

// Windows, convolutions, delta nets, and what goes with the hidden state.
for (const name of ["gemma3-small", "lfm2-small", "qwen35-small", "gemma4-e2b"]) {
  const file = folder && join(folder, `${name}.gguf`);
  const skip = !file ? "POLYCHORD_FAMILIES is not set" : !existsSync(file) && `${file} is not there`;
  test(`${name}: a sequence that was cut, and several guests`, { skip }, async () => {
    const logits = async (options, length, ...steps) => {
      const session = await startSession(file, { context: 256, batch: 16, ...options });
      try {
        for (const [keep, tokens] of steps) {
          session.truncate(Math.min(keep, session.position));
          await session.eval(tokens);
        }
        assert.equal(session.position, length);
        return Buffer.from(session.logits());
      } finally {
        await session.close();
      }
    };
    const straight = await logits({ placement: "resident32" }, 43, [0, [...prompt.slice(0, 40), ...tail]]);
    assert.ok(new Float32Array(straight.buffer, straight.byteOffset, 4).some((it) => it !== 0));
    for (const options of [{ placement: "resident32" }, { placement: "sharded32", memories: 2 }, { ranks: 2 }]) {
      const what = JSON.stringify(options);
      assert.ok(straight.equals(await logits(options, 43, [0, prompt], [40, tail])), what);
      assert.ok(straight.equals(await logits(options, 43, [0, prompt.slice(0, 42)], [40, tail])), what);
    }
  });
}

// Those of the plain graph of Llama have the rows of their own part of each matrix only.
for (const name of ["llama-small", "llama-freqs", "llama-linear", "llama-moe"]) {
  const file = folder && join(folder, `${name}.gguf`);
  const skip = !file ? "POLYCHORD_FAMILIES is not set" : !existsSync(file) && `${file} is not there`;
  test(`${name}: ranks compute what one does`, { skip }, async () => {
    const logits = async (options) => {
      const session = await startSession(file, { context: 64, batch: 16, ...options });
      try {
        await session.eval(prompt.slice(0, 40));
        await session.eval([prompt[40]]);
        return Buffer.from(session.logits());
      } finally {
        await session.close();
      }
    };
    const alone = await logits({});
    for (const ranks of [2, 3, 4]) {
      for (const placement of ["resident32", "sharded32"]) {
        const memories = placement === "sharded32" ? 2 : undefined;
        const all = await logits({ ranks, placement, memories }).catch((error) => (/there can be 1 to/.test(error.message) ? undefined : Promise.reject(error)));
        assert.ok(all === undefined ? ranks > 2 : alone.equals(all), `${ranks} ranks, ${placement}`);
      }
    }
  });
}

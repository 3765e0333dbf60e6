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

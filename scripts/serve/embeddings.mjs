// npm's openai against a server of embeddings: embeddings.mjs URL
import assert from "node:assert/strict";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "none", maxRetries: 0 });
const model = (await client.models.list()).data[0].id;
const input = ["a quick brown fox", "embeddings"];
// It asks for base64 where nothing is said, and decodes it.
const [packed, plain] = await Promise.all(
  [{}, { encoding_format: "float" }].map(more => client.embeddings.create({ model, input, ...more })),
);
for (const index of [0, 1]) {
  const [a, b] = [packed, plain].map(answer => answer.data[index].embedding);
  assert.deepEqual(Array.from(a, Math.fround), Array.from(b, Math.fround));
  assert.ok(Math.abs(b.reduce((sum, number) => sum + number * number, 0) - 1) < 1e-5);
}
await assert.rejects(client.embeddings.create({ model, input, dimensions: 3 }), OpenAI.BadRequestError);

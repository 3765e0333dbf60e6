// npm's openai against a server: client.mjs URL
import assert from "node:assert/strict";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "none", maxRetries: 0 });
const model = (await client.models.list()).data[0].id;
const request = {
  model,
  messages: [{ role: "user", content: "What is the capital of France?" }],
  max_tokens: 16,
  seed: 3,
};

const answer = await client.chat.completions.create(request);
let text = "";
for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) {
  text += chunk.choices[0]?.delta?.content ?? "";
}
assert.equal(text, answer.choices[0].message.content);

const stream = client.chat.completions.stream({ ...request, max_tokens: 300 });
for await (const _ of stream) {
  stream.abort();
  break;
}

await assert.rejects(client.chat.completions.create({ ...request, top_p: 7 }), OpenAI.BadRequestError);
const [a, b] = await Promise.all([request, request].map(it => client.chat.completions.create(it)));
assert.equal(a.choices[0].message.content, b.choices[0].message.content);

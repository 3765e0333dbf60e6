// Files of servers that go wrong in all ways: what came is right, or there is an error in words. In Node, whose
// `fetch` is that of browsers but for the questions that pages ask other hosts (browsers.test.mjs has these).

import assert from "node:assert/strict";
import { createServer } from "node:http";
import test from "node:test";

import { openWhole, UrlSource } from "../dist/node.js";

const BYTES = Uint8Array.from({ length: 100_000 }, (_, index) => (index * 31) ^ (index >> 8));
const FAST = { retryDelay: 1, timeout: 5000 };
/** What the server does with a request: set by each test. */
let answer;
let requests = 0;
const server = createServer((request, response) => {
  requests += 1;
  const [, start, end] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range) ?? [];
  answer({ request, response, start: Number(start), end: Number(end), count: requests });
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
test.after(() => (server.closeAllConnections(), server.close()));
const url = `http://localhost:${server.address().port}/model.gguf`;

function send({ response, start, end }, { headers = {}, status = 206, size = BYTES.length, body } = {}) {
  const to = Math.min(end, BYTES.length - 1);
  const bytes = body ?? BYTES.subarray(start, to + 1);
  response.writeHead(status, { "Content-Range": `bytes ${start}-${to}/${size}`, "Content-Length": bytes.length, ...headers });
  response.end(bytes);
}

async function load(behavior, options = {}) {
  [answer, requests] = [behavior, 0];
  const source = await UrlSource.open(url, { ...FAST, ...options });
  const into = new Uint8Array(source.bytes - 10);
  await source.read(10, into);
  return into;
}

const fails = (behavior, message, options) =>
  assert.rejects(load(behavior, options), (error) => {
    assert.equal(error.kind, "network", error.stack);
    assert.match(error.message, message);
    assert.doesNotMatch(error.message, /undefined|NaN|\[object/);
    return true;
  });

test("a good server, also one that sends a file bit by bit", async () => {
  assert.deepEqual(await load(send), BYTES.subarray(10));
  const slowly = (way) => {
    const { response, start, end } = way;
    response.writeHead(206, { "Content-Range": `bytes ${start}-${end}/${BYTES.length}` });
    const next = (at) => (at > end ? response.end() : response.write(BYTES.subarray(at, Math.min(at + 9000, end + 1)), () => setImmediate(next, at + 9000)));
    next(start);
  };
  assert.deepEqual(await load(slowly), BYTES.subarray(10));
});

test("redirects are followed", async () => {
  const twice = (way) => {
    if (way.request.url.endsWith("?there")) send(way);
    else way.response.writeHead(302, { Location: `${url}?there` }).end();
  };
  assert.deepEqual(await load(twice), BYTES.subarray(10));
});

test("a server that is busy is asked again, after as long as it wants", async () => {
  const busy = (way) => (way.count < 4 ? way.response.writeHead(way.count % 2 ? 503 : 429, { "Retry-After": "0" }).end() : send(way));
  assert.deepEqual(await load(busy), BYTES.subarray(10));
  const began = performance.now();
  await load((way) => (way.count === 2 ? way.response.writeHead(429, { "Retry-After": "1" }).end() : send(way)));
  assert.ok(performance.now() - began > 990);
  await fails(({ response }) => response.writeHead(503).end("busy"), /cannot be loaded now: the server answered 503\. Try again later/);
  await fails((way) => (way.count === 1 ? send(way) : way.response.writeHead(500).end()), /broke 6 times at byte 10 \(the server answered 500\)/);
});

test("connections that break go on where they ended, and not for ever", async () => {
  const cut = (way) => {
    if (way.count === 1) return send(way);
    const { response, start, end } = way;
    response.writeHead(206, { "Content-Range": `bytes ${start}-${end}/${BYTES.length}`, "Content-Length": end + 1 - start });
    response.write(BYTES.subarray(start, Math.min(start + 7000, end + 1)), () => setTimeout(() => response.destroy(), 5));
  };
  assert.deepEqual(await load(cut), BYTES.subarray(10));
  assert.ok(requests > 10);
  await fails((way) => (way.count === 1 ? send(way) : way.response.destroy()), /broke 6 times at byte 10/);
});

test("answers that do not come, or end in the middle, are given up", async () => {
  await fails(() => undefined, /cannot be reached: the server does not answer \(nothing came in 300 ms\)/, { timeout: 300 });
  const stalls = (way) => {
    if (way.count === 1) return send(way);
    way.response.writeHead(206, { "Content-Range": `bytes ${way.start}-${way.end}/${BYTES.length}`, "Content-Length": way.end + 1 - way.start });
    way.response.flushHeaders();
  };
  await fails(stalls, /broke 3 times at byte 10 \(nothing came in 200 ms\)/, { timeout: 200, retries: 2 });
  await assert.rejects(UrlSource.open("http://localhost:1/model.gguf", FAST), /cannot be reached: there is no network/);
});

for (const [what, behavior, message] of [
  ["ranges that are ignored", ({ response }) => response.writeHead(200).end(BYTES), /ignores range requests .*choose it here/],
  ["ranges that are ignored later", (way) => (way.count === 1 ? send(way) : way.response.writeHead(200).end(BYTES)), /the whole file, or another version of it/],
  ["no length", (way) => send(way, { size: "*" }), /does not say how long the file is/],
  ["a length that no file has", (way) => send(way, { size: "9".repeat(30) }), /9{30} bytes, which no file has/],
  ["another length later", (way) => send(way, { size: BYTES.length + (way.count > 1) }), /another range/],
  ["another range", (way) => send(way, way.count > 1 ? { headers: { "Content-Range": `bytes 5-9/${BYTES.length}` } } : {}), /another range \(bytes 5-9/],
  ["several ranges", (way) => send(way, way.count > 1 ? { headers: { "Content-Range": "", "Content-Type": "multipart/byteranges; boundary=x" } } : {}), /another range \(/],
  ["more bytes than were asked for", (way) => send(way, way.count > 1 ? { body: new Uint8Array(BYTES.length + 99) } : {}), /more bytes than were asked for/],
  ["no file", ({ response }) => response.writeHead(404).end("<html>"), /404 Not Found \(there is no such file\)/],
  ["a file for others", ({ response }) => response.writeHead(403).end(), /403 Forbidden \(it does not give this file to everyone/],
  ["a file for people who say who they are", ({ response }) => response.writeHead(401).end(), /401 .*choose it here/],
  ["an empty file", ({ response }) => response.writeHead(416, { "Content-Range": "bytes */0" }).end(), /416 .*the file is empty/],
  ["a file that is gone after a while", (way) => (way.count === 1 ? send(way) : way.response.writeHead(404).end()), /404/],
  ["a file that shrinks", (way) => (way.count === 1 ? send(way) : way.response.writeHead(416).end()), /416 .*shorter than it was/],
  ["redirects without an end", ({ response }) => response.writeHead(302, { Location: url }).end(), /cannot be reached/],
]) {
  test(`a server with ${what} gets a message`, () => fails(behavior, message));
}

test("a file that is exchanged is not mixed with what it was", async () => {
  const exchanged = (header) => (way) => send(way, { headers: { [header]: `"${way.count}"` } });
  await fails(exchanged("ETag"), /exchanged on the server while it was loaded \("2" in place of "1"\)/);
  await fails(exchanged("Last-Modified"), /exchanged on the server/);
});

test("what takes the bytes and fails is no broken connection", async () => {
  answer = send;
  const source = await UrlSource.open(url, FAST);
  requests = 0;
  const full = new Error("storage is full");
  await assert.rejects(source.stream(0, 1000, () => { throw full; }), full);
  assert.equal(requests, 1);
});

test("loading is stopped at once, also while a server is waited for", async () => {
  for (const behavior of [() => undefined, ({ response }) => response.writeHead(503, { "Retry-After": "3600" }).end()]) {
    const stop = new AbortController();
    setTimeout(() => stop.abort(), 100);
    const began = performance.now();
    await assert.rejects(load(behavior, { signal: stop.signal, timeout: 30_000 }), (error) => error.kind === "cancelled");
    assert.ok(performance.now() - began < 3000);
  }
  await assert.rejects(load(send, { signal: AbortSignal.abort() }), (error) => error.kind === "cancelled");
});

test("addresses that are none are refused in words", async () => {
  for (const [address, message] of [["model.gguf", /no address/], ["", /no address/], ["http://", /no address/], ["ftp://localhost/a.gguf", /not of ftp:/], ["file:///etc/passwd", /not of file:/],
    ["data:,GGUF", /not of data:/], ["http://me:secret@localhost/a.gguf", /^(?!.*secret).*password/]]) {
    await assert.rejects(UrlSource.open(address), (error) => error.kind === "argument" && message.test(error.message), address);
  }
});

test("a page of words in place of a model is no model", async () => {
  const page = Buffer.from(`<!doctype html><title>Sign in</title>${" ".repeat(500)}`);
  answer = ({ response, start, end }) => response.writeHead(206, { "Content-Range": `bytes ${start}-${Math.min(end, page.length - 1)}/${page.length}` }).end(page.subarray(start, end + 1));
  await assert.rejects(UrlSource.open(url, FAST).then((source) => openWhole(source)), (error) => error.kind === "file" && /no GGUF|not.*GGUF|GGUF/.test(error.message));
});

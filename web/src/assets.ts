// Files of this package: the guests, and the crates `model` and `plan` as WebAssembly.

import init, { contractVersion } from "./model/model.js";
import { PolychordError } from "./errors.js";

/** Whether this is Node. */
export const isNode = typeof process !== "undefined" && typeof process.versions?.node === "string";

let ready: Promise<number> | undefined;

/** Makes `model.js` usable, once; the version of the contract that it is for. */
export function initModel(): Promise<number> {
  ready ??= (async () => {
    const url = new URL("./model/model_bg.wasm", import.meta.url);
    await init({ module_or_path: isNode ? await readFile(url) : url });
    return contractVersion();
  })().catch((error: unknown) => {
    ready = undefined;
    throw new PolychordError("network", `a part of this page cannot be loaded: ${String(error)}`, { cause: error });
  });
  return ready;
}

/** The builds of the guest, by the kind of its memories. */
export type Build = "wasm32" | "wasm64" | "multi32";

/** Compiles a build of the guest. */
export async function compileGuest(build: Build, relaxed: boolean): Promise<WebAssembly.Module> {
  const name = `transformer-${build}-${relaxed ? "relaxed" : "plain"}.wasm`;
  const url = new URL(`./guests/${name}`, import.meta.url);
  try {
    if (isNode) return await WebAssembly.compile(await readFile(url));
    const response = await fetch(url);
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    return await WebAssembly.compile(await response.arrayBuffer());
  } catch (error) {
    const kind = error instanceof WebAssembly.CompileError ? "unsupported" : "network";
    throw new PolychordError(kind, `the guest ${name} cannot be loaded: ${String(error)}`, { cause: error });
  }
}

async function readFile(url: URL): Promise<Uint8Array<ArrayBuffer>> {
  const { readFile } = await import("node:fs/promises");
  return new Uint8Array(await readFile(url));
}

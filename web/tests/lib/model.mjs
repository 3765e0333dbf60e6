// The default model, and what every engine computes with it.

import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

/** The first digits of the hash in the README's table. */
export const HASH = "41859610e16dfc24";
export const PROMPT = "The capital of France is";
export const TOKENS = 32;

const cache = process.env.POLYCHORD_CACHE ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "polychord");
export const MODEL = process.env.POLYCHORD_MODEL ?? join(cache, "models", "SmolLM2-135M-Instruct.Q4_1.gguf");
if (!existsSync(MODEL)) throw new Error(`${MODEL} is not there: run 'polychord pull', or scripts/test-web`);

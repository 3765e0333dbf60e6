// Debian's browsers, headless.

import { existsSync } from "node:fs";
import puppeteer from "puppeteer-core";

/** Where they may be. */
export const PATHS = { chromium: ["/usr/bin/chromium"], firefox: ["/usr/bin/firefox-esr", "/usr/bin/firefox"] };

/** Starts a browser with a profile of its own, and with these arguments beside those that it needs here. */
export async function launch(name, profile, others = []) {
  const executablePath = PATHS[name]?.find(existsSync);
  if (!executablePath) throw new Error(`${name} is not installed`);
  const root = process.getuid?.() === 0;
  const args = name === "chromium" ? ["--disable-dev-shm-usage", ...(root ? ["--no-sandbox"] : [])] : [];
  const more = name === "firefox" ? { extraPrefsFirefox: { "dom.workers.modules.enabled": true } } : {};
  return puppeteer.launch({ browser: name === "firefox" ? "firefox" : "chrome", executablePath, headless: true, args: [...args, ...others], userDataDir: profile, protocolTimeout: 600_000, ...more });
}

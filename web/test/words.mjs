// The page's own words, so that tests look for what a reader of each language reads.

import { readdirSync } from "node:fs";
import { build } from "esbuild";

const FOLDER = new URL("../src/i18n/", import.meta.url);
export const LANGUAGES = ["en", "de", "zh"];
const known = new Map();

/** All words of a language by view: `(await words("de")).chat.send`. */
export async function words(language) {
  if (!known.has(language)) known.set(language, read(language));
  return known.get(language);
}

async function read(language) {
  const views = readdirSync(new URL(`${language}/`, FOLDER)).map((name) => name.replace(/\.ts$/, ""));
  const lines = views.map((view) => `export { ${view} } from "./${language}/${view}";`);
  lines.push('import { speak } from "./index";', `speak("${language}");`, 'export * as format from "./format";');
  const { outputFiles } = await build({
    stdin: { contents: lines.join("\n"), resolveDir: FOLDER.pathname, loader: "ts" },
    bundle: true,
    write: false,
    format: "esm",
    platform: "neutral",
    mainFields: ["module", "main"],
    // What a browser has and the choice of a language asks for.
    banner: { js: "const localStorage = { getItem: () => null, setItem: () => undefined }; const navigator = { languages: [] };" },
  });
  return import(`data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString("base64")}`);
}

/** A label that holds this text and perhaps more. */
export const holding = (text) => new RegExp(text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));

// Builds the page into the server's sources, from where it is embedded. The same sources give the
// same bytes: names of files carry hashes of what they hold, and nothing carries a date.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import type { Plugin } from "vite";
import { defineConfig } from "vitest/config";

const OUT = "../crates/frugal-serve/src/web/dist";
const SERVER = process.env["FRUGAL_SERVER"] ?? "http://127.0.0.1:8080";

/** Browsers that run this page all read woff2; KaTeX also lists two older formats of each font. */
function woff2Only(): Plugin {
  return {
    name: "woff2-only",
    enforce: "pre",
    transform(code, id) {
      if (!id.includes("katex") || !id.endsWith(".css")) return null;
      return code.replace(/,\s*url\([^)]*\.(?:woff|ttf)\)\s*format\(["'](?:woff|truetype)["']\)/g, "");
    },
  };
}

/** Writes `sw.js` with the names of what the shell and the chat need, so that they open offline. */
function worker(): Plugin {
  return {
    name: "worker",
    apply: "build",
    generateBundle(_, bundle) {
      const shell = new Set<string>();
      const take = (name: string): void => {
        const file = bundle[name];
        if (shell.has(name) || file?.type !== "chunk") return;
        shell.add(name);
        file.imports.forEach(take);
        file.viteMetadata?.importedCss.forEach((css) => shell.add(css));
      };
      for (const file of Object.values(bundle)) {
        const isOfShell = file.type === "chunk" && (file.isEntry || file.facadeModuleId?.endsWith("/src/chat/view.tsx"));
        if (isOfShell) take(file.fileName);
      }
      const names = [...shell].sort().map((name) => `/${name}`);
      const version = createHash("sha256").update(names.join("\n")).digest("hex").slice(0, 12);
      const source = readFileSync(new URL("src/app/sw.js", import.meta.url), "utf8")
        .replace('"SHELL"', JSON.stringify(names))
        .replace("VERSION", version);
      this.emitFile({ type: "asset", fileName: "sw.js", source });
    },
  };
}

export default defineConfig({
  plugins: [woff2Only(), worker()],
  build: {
    outDir: OUT,
    emptyOutDir: true,
    target: "es2022",
    // Fonts and pictures stay files: the page's policy lets no font come from a data address.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rollupOptions: {
      output: {
        manualChunks(id) {
          if (/node_modules\/(preact|@preact)\//.test(id)) return "base";
          if (id.includes("node_modules/katex")) return "math";
          if (/node_modules\/(lowlight|highlight\.js|devlop|@types\/hast)/.test(id)) return "code";
          if (id.includes("node_modules/uplot")) return "chart";
          return undefined;
        },
      },
    },
  },
  test: { include: ["test/unit/**/*.test.ts"], setupFiles: ["test/unit/setup.ts"] },
  server: {
    // The server lets in what names it as its own host, so the browser's name for it is kept.
    proxy: Object.fromEntries(
      ["^/v1/", "^/web/", "^/tokenize", "^/api/"].map((path) => [path, { target: SERVER, changeOrigin: false }]),
    ),
  },
});

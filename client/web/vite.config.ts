import { readdir, readFile, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { constants, gzipSync } from "node:zlib";
import type { Plugin } from "vite";
import { defineConfig } from "vitest/config";
import { PICTURE } from "./src/ui/fakeData.ts";

const OUT = "../../capsule_sidecar/web/page";
const TEXT = /\.(?:css|html|js|json|svg|txt|webmanifest)$/;
/** Below this many bytes a response is not sent compressed. */
const WORTH_COMPRESSING = 1024;

/** Writes `name.gz` beside each text file; the same bytes for the same input. */
function compressed(): Plugin {
  let out = "";
  return {
    name: "capsule-gzip",
    apply: "build",
    configResolved(config) {
      out = resolve(config.root, config.build.outDir);
    },
    // Order "post": the files of `public/` are there as well.
    closeBundle: {
      order: "post",
      sequential: true,
      async handler() {
        const entries = await readdir(out, { recursive: true, withFileTypes: true });
        for (const entry of entries) {
          if (!entry.isFile() || !TEXT.test(entry.name)) continue;
          const path = join(entry.parentPath, entry.name);
          const bytes = await readFile(path);
          if (bytes.length <= WORTH_COMPRESSING) continue;
          const made = gzipSync(bytes, { level: constants.Z_BEST_COMPRESSION });
          made[9] = 255; // the operating system's field: unknown, whichever machine builds
          await writeFile(`${path}.gz`, made);
        }
      },
    },
  };
}

/** Serves a picture as the made-up chat's files. */
function fakeFiles(): Plugin {
  return {
    name: "capsule-fake-files",
    apply: "serve",
    configureServer(server) {
      server.middlewares.use("/files/fake/", (_request, response) => {
        const [, type = "", form = "", data = ""] =
          /^data:([^;,]+)(;base64)?,(.*)$/.exec(PICTURE) ?? [];
        response.setHeader("Content-Type", type);
        response.end(form ? Buffer.from(data, "base64") : decodeURIComponent(data));
      });
    },
  };
}

/** Puts the icon under a name without a digest too: for those who ask for /favicon.ico. */
function plainIcon(): Plugin {
  return {
    name: "capsule-icon",
    apply: "build",
    async generateBundle() {
      const source = await readFile(join(import.meta.dirname, "src", "favicon.svg"));
      this.emitFile({ type: "asset", fileName: "favicon.svg", source });
    },
  };
}

export default defineConfig({
  base: "/",
  plugins: [fakeFiles(), plainIcon(), compressed()],
  build: {
    outDir: OUT,
    emptyOutDir: true,
    target: ["chrome111", "edge111", "firefox114", "safari16.4"],
    // The page's content security policy allows neither inline scripts nor data: modules.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: {
    // `npm run dev` beside a running sidecar.
    proxy: {
      "^/apps/[^/]+/": { target: "http://127.0.0.1:7480" },
      "^/files/(?!fake/)": { target: "http://127.0.0.1:7480" },
    },
  },
  test: {
    environment: "happy-dom",
    include: ["src/**/*.test.{ts,tsx}"],
    // Bounds what hangs; a busy machine is no failure.
    testTimeout: 120_000,
  },
});

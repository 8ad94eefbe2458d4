#!/usr/bin/env node
// Runs Gridroot on Node 24, which the package brings: npm may have started this file on an older one.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const REQUIRED_MAJOR = 24;
const root = join(dirname(fileURLToPath(import.meta.url)), "..");
// The repository runs its sources; the published package holds what was compiled from them.
const main = [join(root, "main.ts"), join(root, "dist", "main.js")].find(existsSync);

if (Number(process.versions.node.split(".")[0]) >= REQUIRED_MAJOR) {
  process.argv[1] = main;
  await import(main);
} else {
  const node = packagedNode();
  if (node === undefined) {
    process.stderr.write(`gridroot needs Node ${REQUIRED_MAJOR}; this is ${process.version}\n`);
    process.exit(1);
  }
  const child = spawn(node, [main, ...process.argv.slice(2)], { stdio: "inherit" });
  // Ctrl-C reaches the child by itself, since it shares the terminal; what is sent to this process alone is passed on.
  process.on("SIGINT", () => {});
  process.on("SIGTERM", () => child.kill("SIGTERM"));
  child.once("exit", (code, signal) => process.exit(code ?? (signal === "SIGINT" ? 130 : 1)));
}

function packagedNode() {
  const require = createRequire(import.meta.url);
  try {
    const manifest = require.resolve(`node-${process.platform}-${process.arch}/package.json`);
    return join(dirname(manifest), "bin", "node");
  } catch {
    return undefined;
  }
}

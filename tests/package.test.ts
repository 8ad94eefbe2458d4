import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { after, test } from "node:test";

const root = fileURLToPath(new URL("../", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "gridroot-package-"));
after(() => rmSync(folder, { recursive: true, force: true }));

function npm(args: readonly string[], cwd: string): string {
  return execFileSync("npm", args, {
    cwd,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
    maxBuffer: 2 ** 26,
  });
}

test("the packed package runs the demonstration in an empty folder", { timeout: 240_000 }, () => {
  const packed =
    npm(["pack", "--silent", "--pack-destination", folder], root).trim().split("\n").at(-1) ?? "";
  const project = mkdtempSync(join(folder, "project-"));
  writeFileSync(join(project, "package.json"), "{}");
  npm(["install", "--no-audit", "--no-fund", join(folder, packed)], project);

  const manifest = JSON.parse(readFileSync(join(project, "node_modules/gridroot/package.json"), "utf8"));
  const own = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  assert.equal(manifest.version, own.version);
  const output = execFileSync("npx", ["gridroot", "demo", "--meters", "7", "--intervals", "8", "--json"], {
    cwd: project,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
  });
  const report = JSON.parse(output.trim().split("\n").at(-1) ?? "");
  assert.equal(Object.keys(report.regions).length, 7);
  assert.equal(report.total.batches, 7 * 8);
  assert.equal(report.total.unreconciledWh, "0");
});

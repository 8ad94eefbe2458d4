import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "node:test";

const root = fileURLToPath(new URL("../", import.meta.url));
const files = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard"], {
  cwd: root,
  encoding: "utf8",
})
  .split("\n")
  .filter((file) => file !== "");
const sources = files.filter((file) => file.endsWith(".ts") && !isTest(file));

const FOUNDATION = ["domain", "service", "ledger", "event-log", "time-series"];
const STAGES = ["ingest", "aggregator", "rollup-relayer", "api"];

/** What each top-level folder may import besides itself. A stage never imports another stage. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  domain: [],
  service: ["domain"],
  ledger: ["domain", "service", "event-log"],
  "event-log": ["domain", "service", "ledger"],
  "time-series": ["domain", "service", "ledger", "event-log"],
  contracts: ["domain", "service"],
  ...Object.fromEntries(STAGES.map((stage) => [stage, FOUNDATION])),
  // The typed contract client is shared by those who talk to the chain.
  "rollup-relayer": [...FOUNDATION, "contracts"],
  api: [...FOUNDATION, "contracts"],
  simulators: ["domain", "service"],
  cli: [...FOUNDATION, ...STAGES, "contracts", "simulators"],
};

function isTest(file: string): boolean {
  return /\.test\.ts$|(^|\/)tests?\/|^bench\/|contract-suite\.ts$|^hardhat\.config\.ts$|^deploy\//.test(file);
}

function importsOf(file: string): string[] {
  const code = readFileSync(join(root, file), "utf8");
  return [
    ...code.matchAll(/(?:^|\n)\s*(?:import|export)\b[^;]*?from\s+"([^"]+)"|\bimport\(\s*"([^"]+)"/g),
  ].map((match) => match[1] ?? match[2] ?? "");
}

for (const [folder, allowed] of Object.entries(MAY_IMPORT)) {
  test(`${folder} imports only ${["itself", ...allowed].join(", ")}`, () => {
    const wrong = sources
      .filter((file) => file.startsWith(`${folder}/`))
      .flatMap((file) =>
        importsOf(file)
          .filter((name) => name.startsWith("."))
          .map((name) => normalize(join(dirname(file), name)))
          .filter((target) => ![folder, ...allowed].includes(target.split("/")[0] ?? ""))
          .map((target) => `${file} -> ${target}`),
      );
    assert.deepEqual(wrong, []);
  });
}

test("every source folder has a rule for what it may import", () => {
  const folders = new Set(sources.filter((file) => file.includes("/")).map((file) => file.split("/")[0]));
  assert.deepEqual(
    [...folders].filter((folder) => MAY_IMPORT[folder ?? ""] === undefined),
    [],
  );
});

test("the domain imports no module of Node", () => {
  const wrong = sources
    .filter((file) => file.startsWith("domain/"))
    .flatMap((file) =>
      importsOf(file)
        .filter((name) => name.startsWith("node:"))
        .map((name) => `${file} -> ${name}`),
    );
  assert.deepEqual(wrong, []);
});

test("only main.ts reads the environment", () => {
  const wrong = sources.filter(
    (file) => file !== "main.ts" && /\bprocess\.env\b/.test(readFileSync(join(root, file), "utf8")),
  );
  assert.deepEqual(wrong, []);
});

test("only cli/adapters.ts chooses adapters", () => {
  const adapters = /^(event-log|time-series)\/(postgres|kafka|influxdb)\//;
  const wrong = sources
    .filter((file) => file !== "cli/adapters.ts" && !adapters.test(file))
    .flatMap((file) =>
      importsOf(file)
        .filter((name) => name.startsWith("."))
        .map((name) => normalize(join(dirname(file), name)))
        .filter((target) => adapters.test(target))
        .map((target) => `${file} -> ${target}`),
    );
  assert.deepEqual(wrong, []);
});

test("the domain reads no clock and no randomness", () => {
  const wrong = sources
    .filter((file) => file.startsWith("domain/"))
    .filter((file) =>
      /\bDate\.now\(|\bnew Date\(\)|\bMath\.random\(/.test(readFileSync(join(root, file), "utf8")),
    );
  assert.deepEqual(wrong, []);
});

test("the README's layout is the tree's", () => {
  const readme = readFileSync(join(root, "README.md"), "utf8");
  const layout = readme.split("## Layout")[1]?.split("\n## ")[0] ?? "";
  const named = [...layout.matchAll(/^\| `([a-z-]+)\/` +\|/gm)].map((match) => match[1]).sort();
  const folders = new Set(
    files.filter((file) => file.includes("/") && !file.startsWith(".")).map((file) => file.split("/")[0]),
  );
  assert.deepEqual(named, [...folders].sort());
});

test("a stage has a README of its inputs and outputs", () => {
  for (const folder of [...STAGES, "event-log", "time-series", "simulators", "contracts"]) {
    const readme = readFileSync(join(root, folder, "README.md"), "utf8");
    assert.match(readme, /input/i, folder);
    assert.match(readme, /output/i, folder);
  }
});

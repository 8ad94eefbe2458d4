import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { test } from "node:test";

const cwd = fileURLToPath(new URL("../", import.meta.url));

/** Where a schema's tables are made, and who speaks to them, perhaps through a pooler. */
const SCHEMAS = {
  "ledger/migrations": ["ledger/*.ts", "cli/*.ts", "time-series/*.ts", "{api,ingest,aggregator}/*.ts"],
  "time-series/postgres/migrations": ["time-series/postgres/*.ts"],
  "time-series/influxdb/migrations": ["time-series/influxdb/*.ts"],
  "rollup-relayer/authority/migrations": ["rollup-relayer/authority/*.ts"],
};

function tablesOf(migrations: string): readonly string[] {
  return globSync(`${migrations}/*.sql`, { cwd }).flatMap((file) =>
    [...read(file).matchAll(/create table (\w+)/g)].map((match) => match[1] ?? ""),
  );
}

function read(file: string): string {
  return readFileSync(new URL(`../${file}`, import.meta.url), "utf8");
}

/** Tables that a file names without their schema; what a statement's own `with` names is none. */
function unqualified(file: string, tables: readonly string[]): readonly string[] {
  const code = read(file)
    .split("\n")
    .filter((line) => !/^\s*(?:\*|\/\*\*|\/\/)/.test(line))
    .join("\n");
  return [...code.matchAll(/\b(?:from|join|into|update|table)\s+(\w+)\b(?!\.)/g)]
    .map((match) => match[1] ?? "")
    .filter((name) => tables.includes(name) && !new RegExp(`(?:with|,)\\s+${name} as\\b`).test(code))
    .map((name) => `${file}: ${name}`);
}

/** A search path is state of a session, and behind a pooler in transaction mode there is no session. */
for (const [migrations, patterns] of Object.entries(SCHEMAS)) {
  test(`no statement relies on a search path for a table of ${migrations}`, () => {
    const tables = tablesOf(migrations);
    assert.notEqual(tables.length, 0);
    const files = globSync(patterns, { cwd, exclude: ["**/*.test.ts", "**/*-suite.ts"] });
    assert.deepEqual(
      files.flatMap((file) => unqualified(file, tables)),
      [],
    );
  });
}

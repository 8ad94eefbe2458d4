import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { test } from "node:test";

const cwd = fileURLToPath(new URL("../", import.meta.url));

/** Where a schema's tables are made, and who speaks to them, perhaps through a pooler. */
const SCHEMAS = {
  "ledger/migrations": ["ledger/*.ts", "cli/*.ts", "time-series/*.ts", "{api,ingest,aggregator}/*.ts"],
  "time-series/postgres/migrations": ["time-series/postgres/*.ts"],
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

/** A search path is state of a session, and behind a pooler in transaction mode there is no session. */
for (const [migrations, patterns] of Object.entries(SCHEMAS)) {
  test(`no statement relies on a search path for a table of ${migrations}`, () => {
    const tables = tablesOf(migrations);
    assert.notEqual(tables.length, 0);
    const unqualified = new RegExp(`\\b(?:from|join|into|update|table)\\s+(?:${tables.join("|")})\\b`, "g");
    const found = globSync(patterns, { cwd, exclude: ["**/*.test.ts", "**/*-suite.ts"] }).flatMap((file) =>
      read(file)
        .split("\n")
        .filter((line) => !/^\s*(?:\*|\/\*\*|\/\/)/.test(line))
        .flatMap((line) => [...line.matchAll(unqualified)].map((match) => `${file}: ${match[0]}`)),
    );
    assert.deepEqual(found, []);
  });
}

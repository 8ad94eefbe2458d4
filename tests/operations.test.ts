import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import type { Command } from "commander";
import { processConnections } from "../cli/connections.ts";
import { buildProgram } from "../cli/program.ts";
import { ROLES } from "../cli/roles.ts";
import { SETTINGS, SETTINGS_PREFIX } from "../service/configuration.ts";
import { FILE_SUFFIX } from "../service/setting-files.ts";
import { readSettings } from "../service/settings.ts";

const root = fileURLToPath(new URL("../", import.meta.url));
const guide = readFileSync(join(root, "docs/operations.md"), "utf8");
const quoted = [...guide.matchAll(/`([^`\n]+)`/g)].map((match) => match[1] ?? "");
const blocks = [...guide.matchAll(/^ {4}(\S.*)$/gm)].map((match) => match[1] ?? "");

/** Names of metrics as the program's sources declare them. */
function declaredMetrics(): ReadonlySet<string> {
  const files = execFileSync("git", ["ls-files", "*.ts"], { cwd: root, encoding: "utf8" }).split("\n");
  const sources = files.filter(
    (file) => file !== "" && !/\.test\.ts$|^tests\/|^bench\/|^deploy\//.test(file),
  );
  const names = sources
    .map((file) => readFileSync(join(root, file), "utf8"))
    .filter((source) => source.includes('"prom-client"'))
    .flatMap((source) => [...source.matchAll(/"([a-z]+_[a-z0-9_]+)"/g)].map((match) => match[1] ?? ""));
  return new Set(names);
}

/** The first words of the metrics' names: what is written so in the guide means a metric. */
const METRIC =
  /\b(?:aggregator|api|authority|http|influx|ingest|postgres_pool|recorder|relayer|rollups)_[a-z0-9_]+/g;

test("every metric that the guide names is one of the program's", () => {
  const declared = declaredMetrics();
  const named = quoted.flatMap((text) => text.match(METRIC) ?? []);
  assert.ok(named.length > 30, `${named.length} metrics are named`);
  const unknown = named.map((name) => name.replace(/_bucket$/, "")).filter((name) => !declared.has(name));
  assert.deepEqual(unknown, []);
});

test("what means that an operator must look has an alarm in the guide", () => {
  const help = /name: "([a-z_]+)",\s*help:\s*"([^"]*(?:operator|disappeared|alarm)[^"]*)"/g;
  const files = execFileSync("git", ["ls-files", "*.ts"], { cwd: root, encoding: "utf8" }).split("\n");
  const grave = files
    .filter((file) => file !== "" && !file.endsWith(".test.ts"))
    .flatMap((file) =>
      [...readFileSync(join(root, file), "utf8").matchAll(help)].map((match) => match[1] ?? ""),
    );
  assert.ok(grave.includes("aggregator_halted_partitions"));
  for (const name of grave) assert.ok(guide.includes(name), name);
});

test("every setting that the guide names is one", () => {
  const names = new Set<string>(Object.values(SETTINGS).map(({ name }) => name));
  const named = guide.match(/\bGRIDROOT_[A-Z_]+/g) ?? [];
  assert.ok(named.length > 20);
  const unknown = named.filter(
    (name) =>
      !names.has(name) && !(name.endsWith(FILE_SUFFIX) && names.has(name.slice(0, -FILE_SUFFIX.length))),
  );
  assert.deepEqual(unknown, []);
});

test("every command that the guide has typed is one, with the options that it has", () => {
  const program = buildProgram(() => Promise.reject(new Error("no command is run")));
  const typed = [...quoted, ...blocks].filter((text) => text.startsWith("gridroot "));
  assert.ok(typed.length > 8);
  for (const line of typed) {
    let command: Command = program;
    const words = line.split(/\s+/).slice(1);
    while (words[0] !== undefined) {
      const next = command.commands.find((candidate) => candidate.name() === words[0]);
      if (next === undefined) break;
      command = next;
      words.shift();
    }
    assert.notEqual(command, program, line);
    for (const flag of words.filter((word) => word.startsWith("--"))) {
      assert.ok(
        command.options.some(({ long }) => long === flag),
        `${line}: ${flag}`,
      );
    }
  }
});

test("every file that the guide names is there", () => {
  const linked = [...guide.matchAll(/\]\((?!http)([^)#]+)\)/g)].map((match) => join("docs", match[1] ?? ""));
  const scripts = [...guide.matchAll(/\b(?:deploy|tests)\/[\w./-]+\.\w+/g)].map((match) => match[0]);
  assert.ok(linked.length > 1 && scripts.length > 2);
  for (const file of [...linked, ...scripts]) assert.ok(existsSync(join(root, file)), file);
});

test("the guide's table of connections is the program's", () => {
  const environment = {
    GRIDROOT_PROFILE: "distributed",
    GRIDROOT_POSTGRES_REPLICA_URL: "postgres://replica/db",
  };
  const settings = readSettings(SETTINGS, environment, SETTINGS_PREFIX);
  const table = guide.split("### Connections to PostgreSQL")[1]?.split("\n## ")[0] ?? "";
  const figure = (cell: string) =>
    [...cell.matchAll(/\d+/g)].reduce((sum, [digits]) => sum + Number(digits), 0);
  for (const role of ROLES.filter((name) => name !== "chain")) {
    const row = new RegExp(`^\\| \`${role}\` +\\|([^|]+)\\|([^|]+)\\|([^|]+)\\|$`, "m").exec(table);
    assert.ok(row !== null, role);
    const [pooled, direct, replica] = row.slice(1).map(figure);
    assert.deepEqual({ pooled, direct, replica }, processConnections(settings, [role]), role);
  }
});

test("every role has a row", () => {
  for (const role of ROLES) assert.match(guide, new RegExp(`^\\| \`${role}\` `, "m"));
});

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { MUTATIONS } from "./mutations.ts";

const root = new URL("../../", import.meta.url);
const textOf = (file: string) => readFileSync(new URL(file, root), "utf8");

test("every mutation still applies: the text to replace stands once", () => {
  const stale = MUTATIONS.filter(({ file, from }) => textOf(file).split(from).length !== 2);
  assert.deepEqual(
    stale.map(({ breaks, file }) => `${breaks}: ${file}`),
    [],
  );
});

test("no two mutations are the same, and each changes something", () => {
  const changes = MUTATIONS.map(({ file, from, to }) => JSON.stringify([file, from, to]));
  assert.equal(new Set(changes).size, changes.length);
  assert.ok(MUTATIONS.every(({ from, to }) => from !== to));
});

test("the test file that must notice a mutation is there", () => {
  const missing = MUTATIONS.filter(({ test: file }) => !existsSync(new URL(file, root)));
  assert.deepEqual(missing, []);
});

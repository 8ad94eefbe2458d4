import assert from "node:assert/strict";
import { readFile, readdir } from "node:fs/promises";
import { test } from "node:test";
import settlement from "./generated/Settlement.json" with { type: "json" };
import { claimFigures } from "./test/gas/claims.ts";
import { postFigures } from "./test/gas/posts.ts";

const ERRORS = settlement.abi.filter(({ type }) => type === "error").map(({ name }) => name!);
const page = await readFile(new URL("../docs/contracts.md", import.meta.url), "utf8");

/** The cells of each row below the heading, the table's own head included. */
function tableUnder(heading: string): readonly (readonly string[])[] {
  const section = page.split(`\n## ${heading}\n`)[1]?.split("\n## ")[0] ?? "";
  const rows = section.split("\n").filter((line) => line.startsWith("|"));
  return rows.map((row) =>
    row
      .split("|")
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}

test("every error of the contract is in the page's table, with what the caller does, and no other", () => {
  const told = tableUnder("Errors")
    .slice(2)
    .flatMap(([names, means, caller]) => {
      assert.ok(means !== "" && caller !== "", `${names} says nothing`);
      return [...names!.matchAll(/`(\w+)/g)].map(([, name]) => name!);
    });
  assert.deepEqual(told.toSorted(), ERRORS.toSorted());
});

test("every error that the interfaces declare is met by its selector in a Solidity test", async () => {
  const folder = new URL("./test/", import.meta.url);
  const files = (await readdir(folder)).filter((file) => file.endsWith(".t.sol"));
  const tests = (await Promise.all(files.map((file) => readFile(new URL(file, folder), "utf8")))).join("\n");
  const met = new Set([...tests.matchAll(/\.(\w+)\.selector/g)].map(([, name]) => name));
  const sources = new URL("./src/", import.meta.url);
  const interfaces = (await readdir(sources)).filter((file) => /^I[A-Z]/.test(file));
  const declared = (await Promise.all(interfaces.map((file) => readFile(new URL(file, sources), "utf8"))))
    .flatMap((text) => [...text.matchAll(/^ {4}error (\w+)\(/gm)])
    .map(([, name]) => name!);
  assert.ok(declared.length > 40);
  assert.deepEqual(
    declared.filter((name) => !met.has(name)),
    [],
  );
});

test("gas is within its goals, and the page's table is what is measured", async () => {
  const figures = [...(await postFigures()), ...(await claimFigures())];
  for (const { name, gas, goal } of figures) assert.ok(goal === null || gas <= goal, `${name}: ${gas}`);
  const measured = figures.map(({ name, gas, goal, total }) => [
    name,
    gas.toLocaleString("en"),
    goal?.toLocaleString("en") ?? "",
    total.toLocaleString("en"),
  ]);
  assert.deepEqual(tableUnder("Gas").slice(2), measured);
});

import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { readGrid } from "./grid.ts";

const folder = await mkdtemp(join(tmpdir(), "gridroot-grid-"));
after(() => rm(folder, { recursive: true }));
const thailand = new URL("../config/thailand.json", import.meta.url);

async function readChanged(change: (grid: Record<string, unknown>) => void) {
  const grid = JSON.parse(await readFile(thailand, "utf8"));
  change(grid);
  const file = join(folder, "grid.json");
  await writeFile(file, JSON.stringify(grid));
  return readGrid(file);
}

test("the Thai example has seven regions and three authorities, two of which must attest", async () => {
  const grid = await readGrid(thailand);
  assert.equal(grid.regions.length, 7);
  assert.deepEqual(
    grid.authorities.map((authority) => authority.name),
    ["egat", "mea", "pea"],
  );
  assert.equal(grid.threshold, 2);
  assert.equal(typeof grid.regions[0]!.capWh, "bigint");
});

const faulty: [string, (grid: Record<string, unknown>) => void, RegExp][] = [
  ["a threshold above the number of authorities", (grid) => (grid["threshold"] = 4), /\/threshold/],
  ["an interval that does not divide a day", (grid) => (grid["intervalLengthS"] = 700), /\/intervalLengthS/],
  ["an unknown field", (grid) => (grid["colour"] = "red"), /grid\.json/],
  ["no region", (grid) => (grid["regions"] = []), /\/regions/],
  [
    "a region named twice",
    (grid) => (grid["regions"] = [...(grid["regions"] as object[]), (grid["regions"] as object[])[0]]),
    /stands twice/,
  ],
];

for (const [what, change, message] of faulty) {
  test(`${what} is refused by name`, async () => {
    await assert.rejects(readChanged(change), (error: Error & { code?: string }) => {
      assert.equal(error.code, "grid-invalid");
      assert.match(error.message, message);
      return true;
    });
  });
}

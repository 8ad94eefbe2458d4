import assert from "node:assert/strict";
import { mkdtemp, open, rm, stat, truncate } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { cutLog } from "./bounded-log.ts";

const folder = await mkdtemp(join(tmpdir(), "gridroot-test-log-"));
after(() => rm(folder, { recursive: true, force: true }));

test("a log that is too long is emptied while it is written to, and a shorter one is left", async () => {
  const file = join(folder, "server.log");
  cutLog(file);
  const log = await open(file, "a");
  await truncate(file, 16 * 1024 * 1024);
  cutLog(file);
  assert.equal((await stat(file)).size, 16 * 1024 * 1024);
  await log.appendFile("over");
  cutLog(file);
  await log.appendFile("next");
  assert.equal((await stat(file)).size, "next".length);
  await log.close();
});

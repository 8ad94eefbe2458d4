import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { until } from "../../tests/support/until.ts";
import { installOnce, runToEnd, withLock } from "./install.ts";

const folder = await mkdtemp(join(tmpdir(), "gridroot-test-install-"));
process.env["XDG_CACHE_HOME"] = folder;
after(() => rm(folder, { recursive: true, force: true }));

const silent = (): void => {};

test("what two want at the same time is installed once, and appears whole", async () => {
  let builds = 0;
  const build = async (unfinished: string): Promise<void> => {
    builds += 1;
    assert.equal(existsSync(join(folder, "gridroot", "thing-1")), false);
    await writeFile(join(unfinished, "program"), "whole");
  };
  const places = await Promise.all([
    installOnce("thing", "1", "", build, silent),
    installOnce("thing", "1", "", build, silent),
  ]);
  assert.equal(builds, 1);
  assert.deepEqual(new Set(places), new Set([join(folder, "gridroot", "thing-1")]));
  assert.equal(await readFile(join(folder, "gridroot", "thing-1", "program"), "utf8"), "whole");
});

test("an installation that fails leaves nothing in its place, and the next one begins anew", async () => {
  const failing = async (unfinished: string): Promise<void> => {
    await writeFile(join(unfinished, "half"), "");
    throw new Error("the build failed");
  };
  await assert.rejects(installOnce("broken", "1", "", failing, silent), /the build failed/);
  assert.equal(existsSync(join(folder, "gridroot", "broken-1")), false);
  const place = await installOnce("broken", "1", "", async () => {}, silent);
  assert.equal(existsSync(join(place, "half")), false);
});

test("a lock is free again when the process that held it is killed", async () => {
  const lock = join(folder, "lock");
  const module = JSON.stringify(new URL("install.ts", import.meta.url).href);
  const script = `import { withLock } from ${module};
    import { writeFileSync } from "node:fs";
    await withLock(${JSON.stringify(lock)}, () => {
      writeFileSync(${JSON.stringify(`${lock}.held`)}, "");
      return new Promise(() => setInterval(() => {}, 1000));
    });`;
  const holder = spawn(process.execPath, ["--input-type=module", "--eval", script], { stdio: "inherit" });
  await until("the other process holds the lock", () => existsSync(`${lock}.held`));
  let entered = false;
  const waiting = withLock(lock, async () => {
    entered = true;
  });
  assert.equal(entered, false);
  holder.kill("SIGKILL");
  await once(holder, "exit");
  await waiting;
  assert.ok(entered);
});

test("a program that fails is reported with the end of what it printed", async () => {
  await assert.rejects(runToEnd("/bin/sh", ["-c", "echo first; echo why >&2; exit 3"]), {
    code: "install-failed",
    message: /failed \(3\): (?:.*\n)*why/,
  });
});

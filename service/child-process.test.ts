import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { pino } from "pino";
import { until } from "../tests/support/until.ts";
import { ChildRole } from "./child-process.ts";

const folder = await mkdtemp(join(tmpdir(), "gridroot-child-"));
after(() => rm(folder, { recursive: true }));

/** A role that comes up only when the file `name`.up is there, and notes each of its lives. */
const PROGRAM = `
import { appendFileSync, existsSync } from "node:fs";
import { announceReady, leaveParent, serveParent } from ${JSON.stringify(new URL("./child-process.ts", import.meta.url).href)};
const name = process.argv[2];
appendFileSync(name + ".lives", process.pid + "\\n");
serveParent({
  answer: async (question) => { if (question.ask === "mine") throw new Error("no"); return question.ask; },
  stop: () => leaveParent(),
});
announceReady(existsSync(name + ".up") ? undefined : new Error("not yet"));
`;
const mainFile = join(folder, "program.ts");
await writeFile(mainFile, PROGRAM);

function role(name: string): ChildRole {
  return new ChildRole(
    {
      name,
      mainFile,
      args: [join(folder, name)],
      environment: { PATH: process.env["PATH"] },
      readyWithinMs: 10_000,
      stopWithinMs: 5_000,
    },
    { log: pino({ level: "silent" }) },
  );
}

async function lives(name: string): Promise<number[]> {
  return (await readFile(join(folder, `${name}.lives`), "utf8")).trim().split("\n").map(Number);
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

test("a role answers, reports errors, and ends when it is told to stop", async () => {
  await writeFile(join(folder, "steady.up"), "");
  const child = role("steady");
  await child.start();
  assert.equal(await child.ask({ ask: "metrics" }), "metrics");
  await assert.rejects(child.ask({ ask: "mine", blocks: 1 }), { code: "child-failed" });
  await child.stop();
  assert.deepEqual((await lives("steady")).filter(isAlive), []);
});

test("a role that cannot start is reported and leaves no process", async () => {
  const child = role("unable");
  await assert.rejects(child.start(), /not yet/);
  await until("it is gone", async () => (await lives("unable")).every((pid) => !isAlive(pid)));
  await child.stop();
});

test("a role that dies is started again, until it comes up, and never twice at a time", async () => {
  const up = join(folder, "mortal.up");
  await writeFile(up, "");
  const child = role("mortal");
  await child.start();
  assert.ok(child.isUp);
  await rm(up);
  process.kill(child.pid!, "SIGKILL");
  await until("it was tried again", async () => (await lives("mortal")).length >= 3);
  assert.ok(!child.isUp, "a process that cannot start is not up");
  await writeFile(up, "");
  await until("it is up", () => child.isUp);
  assert.equal(await child.ask({ ask: "metrics" }), "metrics");
  assert.deepEqual((await lives("mortal")).filter(isAlive), [child.pid]);
  await child.stop();
  assert.deepEqual((await lives("mortal")).filter(isAlive), []);
});

test("a role that fails to start again is tried once after each pause", async (t) => {
  const up = join(folder, "failing.up");
  await writeFile(up, "");
  const child = role("failing");
  await child.start();
  await rm(up);
  t.mock.timers.enable({ apis: ["setTimeout"] });
  process.kill(child.pid!, "SIGKILL");
  for (let tries = 0; tries < 4; tries += 1) {
    await untilNow(() => processes() === 0);
    if (tries === 3) await writeFile(up, "");
    t.mock.timers.tick(10_000);
    assert.equal(processes(), 1);
  }
  await untilNow(() => child.isUp);
  await child.stop();
});

/** Children of this process that run. */
function processes(): number {
  return process.getActiveResourcesInfo().filter((resource) => resource === "ProcessWrap").length;
}

/** Waits without a timer, which the test holds. */
async function untilNow(condition: () => boolean): Promise<void> {
  const deadlineMs = performance.now() + 20_000;
  while (!condition()) {
    assert.ok(performance.now() < deadlineMs, "waited 20 s in vain");
    await new Promise((resolve) => setImmediate(resolve));
  }
}

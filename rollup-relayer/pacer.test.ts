import assert from "node:assert/strict";
import { test } from "node:test";
import { until } from "../tests/support/until.ts";
import { Pacer } from "./pacer.ts";

/** A pacer over turns that the test decides on. */
function pacerOf(
  turn: (count: number) => boolean | Error | Promise<boolean>,
  options: { idleMs?: number; maxBackoffMs?: number; random?: () => number } = {},
): { pacer: Pacer; turns: number[]; failures: unknown[] } {
  const turns: number[] = [];
  const failures: unknown[] = [];
  const pacer = new Pacer(
    { idleMs: options.idleMs ?? 60_000, maxBackoffMs: options.maxBackoffMs ?? 60_000 },
    {
      async turn() {
        turns.push(performance.now());
        const outcome = turn(turns.length);
        if (outcome instanceof Error) throw outcome;
        return outcome;
      },
      failed: (error) => failures.push(error),
      random: options.random ?? (() => 0),
    },
  );
  return { pacer, turns, failures };
}

test("turns follow at once while there is more to do, then pause until woken", async () => {
  const { pacer, turns } = pacerOf((count) => count < 5);
  pacer.start();
  await until("the first pause", () => turns.length === 5);
  pacer.wake();
  await until("the wake", () => turns.length === 6);
  await pacer.stop();
  assert.equal(turns.length, 6);
});

test("a wake during a turn is not lost", async () => {
  const woken = Promise.withResolvers<boolean>();
  const { pacer, turns } = pacerOf((count) => (count === 1 ? woken.promise : false));
  pacer.start();
  await until("the turn is under way", () => turns.length === 1);
  pacer.wake();
  woken.resolve(false);
  await until("the next turn", () => turns.length === 2);
  await pacer.stop();
});

test("the pause after failures doubles, is shortened by jitter, has a bound, and no wake cuts it", async () => {
  const { pacer, turns, failures } = pacerOf(() => new Error("on purpose"), {
    maxBackoffMs: 200,
    random: () => 0.5,
  });
  pacer.start();
  const waking = setInterval(() => pacer.wake(), 1);
  await until("four turns failed", () => failures.length === 4);
  clearInterval(waking);
  await pacer.stop();
  // 100, 200 and 200 ms, each less a quarter.
  const pausesMs = turns.slice(1, 4).map((atMs, i) => atMs - turns[i]!);
  for (const [i, leastMs] of [75, 150, 150].entries()) {
    assert.ok(pausesMs[i]! >= leastMs - 2, `pause ${i}: ${pausesMs[i]} ms`);
  }
});

test("stop ends a pause at once and waits for the turn in hand", async () => {
  const ended = Promise.withResolvers<boolean>();
  const { pacer, turns } = pacerOf(() => ended.promise);
  pacer.start();
  await until("the turn is under way", () => turns.length === 1);
  let stopped = false;
  const stopping = pacer.stop().then(() => (stopped = true));
  assert.equal(pacer.stopping, true);
  assert.equal(stopped, false);
  ended.resolve(true);
  await stopping;
  assert.equal(turns.length, 1);
});

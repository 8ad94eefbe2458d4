import assert from "node:assert/strict";
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { test, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import type { Reading } from "../domain/metering/reading.ts";
import { Aggregation, BEGIN, commissionRecord, INTERVAL_S, readingAt } from "../tests/support/aggregation.ts";
import { Registry } from "prom-client";
import { until } from "../tests/support/until.ts";
import { AGGREGATOR_FAULT_POINTS } from "./aggregator.ts";

const PROGRAM = fileURLToPath(new URL("../tests/support/aggregator-process.ts", import.meta.url));
const INTERVALS = 6;
const METERS = 6;
/** One more says nothing at all, so that the first intervals are sealed after the grace, by a barrier. */
const COMMISSIONED = METERS + 1;
async function aggregation(t: TestContext): Promise<Aggregation> {
  const it = await Aggregation.open({ partitionsPerRegion: 2 });
  t.after(() => it.close());
  return it;
}

function run(t: TestContext, it: Aggregation, fault: string): ChildProcess {
  const child = fork(PROGRAM, [it.url, String(it.partitionsPerRegion), fault]);
  t.after(() => child.kill("SIGKILL"));
  return child;
}

async function stop(child: ChildProcess): Promise<void> {
  const gone = once(child, "exit");
  child.kill("SIGTERM");
  await gone;
}

/** A generator of numbers below `n` that gives the same numbers for the same seed (mulberry32). */
function randomFrom(seed: number): (n: number) => number {
  let state = seed;
  return (n) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % n;
  };
}

/** Readings of all meters, with losses, repeats and disorder; each meter's last reading arrives. */
function traffic(seed: number): { readonly readings: readonly Reading[]; readonly totalWh: bigint } {
  const random = randomFrom(seed);
  const arrivals: { readonly reading: Reading; readonly at: number }[] = [];
  let totalWh = 0n;
  for (let meter = 0; meter < METERS; meter += 1) {
    let exportWh = 0;
    for (let step = 1; step <= 2 * INTERVALS; step += 1) {
      exportWh += random(500);
      const t = (step * INTERVAL_S) / 2;
      const last = step === 2 * INTERVALS;
      const copies = last ? 1 + random(2) : random(6) === 0 ? 0 : 1 + random(5) / 4;
      for (let copy = 0; copy < copies; copy += 1) {
        arrivals.push({ reading: readingAt(`m${meter}`, t, exportWh), at: step * 10 + random(25) });
      }
    }
    totalWh += BigInt(exportWh);
  }
  return { readings: arrivals.sort((a, b) => a.at - b.at).map(({ reading }) => reading), totalWh };
}

/** A reading beyond the last boundary lets the grace of the last interval begin. */
const epilogue = readingAt("m0", (INTERVALS + 1) * INTERVAL_S, 900_000, { seq: 1 });

/** Each point at its first pass, and some at a later one, each with traffic of its own. */
const crashes = AGGREGATOR_FAULT_POINTS.flatMap((point, index) =>
  (index % 2 === 0 ? [1] : [1, 4]).map((pass) => ({ point, pass, seed: 100 * pass + index })),
);

for (const { point, pass, seed } of crashes) {
  test(`kill -9 at ${point}, pass ${pass}: no interval is sealed twice, and totals are exact`, async (t) => {
    const it = await aggregation(t);
    const { readings, totalWh } = traffic(seed);
    await it.eventLog.ensureTopics([{ topic: "readings.bangkok", partitions: it.partitionsPerRegion }]);
    const doomed = run(t, it, `${point}:${pass}`);
    const died = once(doomed, "exit", { signal: AbortSignal.timeout(20_000) });
    const submitted = it
      .submit(Array.from({ length: COMMISSIONED }, (_, meter) => commissionRecord(`m${meter}`)))
      .then(() => it.publish(readings))
      .then(() => it.publish([{ ...epilogue, exportWh: readings.findLast(isLastOfM0)!.exportWh }]));
    const [, signal] = (await died) as [number, NodeJS.Signals];
    assert.equal(signal, "SIGKILL", "the fault point was passed");
    const survivor = run(t, it, "");
    await submitted;
    await it.untilSealed(INTERVALS);
    await stop(survivor);
    await assertExact(it, totalWh, seed);
  });
}

function isLastOfM0(reading: Reading): boolean {
  return reading.meterId === "m0" && reading.t === BEGIN + INTERVALS * INTERVAL_S;
}

async function assertExact(it: Aggregation, totalWh: bigint, seed: number): Promise<void> {
  const batches = await it.batches();
  let [tip, root, creditWh] = [0, `0x${"0".repeat(64)}`, 0n];
  for (const { content } of batches) {
    assert.equal(content.prevInterval, tip, `seed ${seed}: batches follow one another`);
    assert.equal(content.prevRoot, root);
    creditWh += content.intervalCreditWh;
    assert.equal(content.cumulativeCreditWh, creditWh);
    [tip, root] = [content.interval, content.root];
  }
  assert.equal(creditWh, totalWh, `seed ${seed}: every reading is credited once`);
  assert.equal(batches.at(-1)?.interval, BEGIN + INTERVALS * INTERVAL_S);
  const projected = await it.rows("select count(*) as n from meter");
  assert.deepEqual(projected, [{ n: COMMISSIONED }]);
  const version = await it.rows("select registry_version as n from region");
  assert.deepEqual(version, [{ n: COMMISSIONED }], `seed ${seed}: each registry record took effect once`);
}

test("an aggregator whose partition was taken over writes nothing more", async (t) => {
  const it = await aggregation(t);
  const metrics = new Registry();
  const first = await it.start({ graceMs: 100, flushEveryMs: 60_000 }, { metrics });
  await it.commission(METERS);
  await it.publish([readingAt("m0", 900, 100), readingAt("m1", 900, 100)]);
  await until("both readings are in memory, unwritten", async () =>
    /aggregator_readings_total{outcome="accepted"} 2/.test(await metrics.metrics()),
  );
  // The fence rises behind its back, as when its lease ran out while it was frozen.
  await it.pool.query("update consumer_offset set fence = fence + 1 where consumer = 'aggregator'");
  const frozen = await it.rows(
    "select partition, next_offset, fence from consumer_offset order by partition",
  );
  await first.stop();
  const after = await it.rows("select partition, next_offset, fence from consumer_offset order by partition");
  assert.deepEqual(after, frozen);
  assert.deepEqual(await it.rows("select sum(readings)::bigint as n from partition_progress"), [{ n: 0 }]);
});

test("two aggregators share the partitions, and each takes over what the other leaves", async (t) => {
  const it = await aggregation(t);
  const options = { graceMs: 50, flushEveryMs: 50, sweepEveryMs: 100 };
  const { readings, totalWh } = traffic(7);
  let current = await it.start(options);
  await it.commission(COMMISSIONED);
  const third = Math.ceil(readings.length / 3);
  for (const from of [0, third, 2 * third]) {
    const next = await it.start(options);
    await it.publish(readings.slice(from, from + third));
    await current.stop();
    current = next;
  }
  await it.publish([{ ...epilogue, exportWh: readings.findLast(isLastOfM0)!.exportWh }]);
  await it.untilSealed(INTERVALS);
  await current.stop();
  await assertExact(it, totalWh, 7);
});

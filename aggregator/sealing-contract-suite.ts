import assert from "node:assert/strict";
import { describe, test, type TestContext } from "node:test";
import { applyReading } from "../domain/metering/apply-reading.ts";
import { applyRecord } from "../domain/metering/apply-record.ts";
import type { RegistryRecord } from "../domain/metering/registry-records.ts";
import type { ServicePoint } from "../domain/metering/service-point.ts";
import { wh } from "../domain/metering/units.ts";
import { buildBatch } from "../domain/settlement/batch.ts";
import { dataHash } from "../domain/settlement/evidence.ts";
import { createHasher } from "../domain/settlement/hasher.ts";
import { regionTopic } from "../event-log/topics.ts";
import type { BatchKey } from "../ledger/batches.ts";
import {
  Aggregation,
  type AggregationOptions,
  BEGIN,
  device,
  INTERVAL_S,
  readingAt,
  REGION,
} from "../tests/support/aggregation.ts";
import type { JobsBackend } from "../service/job-store.ts";
import { until } from "../tests/support/until.ts";
import { parseLogRecord } from "./log-records.ts";
import { boundaryValues } from "./sealer.ts";

const LONG_GRACE_MS = 600_000;
const meters = (count: number) => Array.from({ length: count }, (_, index) => `m${index}`);
const report = (ids: readonly string[], interval: number, exportWh: number) =>
  ids.map((meterId) => readingAt(meterId, interval * INTERVAL_S, exportWh));

/**
 * Runs every test that sealing must pass wherever its jobs are kept.
 *
 * @param freshJobs - An empty place for each test; default: its ledger's database.
 */
export function sealingContract(name: string, freshJobs?: () => JobsBackend): void {
  const aggregation = async (t: TestContext, options: AggregationOptions = {}): Promise<Aggregation> => {
    const it = await Aggregation.open(freshJobs === undefined ? options : { ...options, jobs: freshJobs() });
    t.after(() => it.close());
    return it;
  };
  describe(`sealing contract: ${name}`, () => {
    test("an interval is sealed at once when every meter has a reading at or after its end", async (t) => {
      const it = await aggregation(t);
      const sealed: BatchKey[] = [];
      await it.start({ graceMs: LONG_GRACE_MS }, { onSealed: (batch) => sealed.push(batch) });
      await it.commission(6);
      for (let interval = 1; interval <= 5; interval += 1) {
        await it.publish(
          meters(6).map((meterId, index) =>
            readingAt(meterId, interval * INTERVAL_S, interval * (index + 1) * 10),
          ),
        );
        await it.untilSealed(interval);
      }
      const batches = await it.batches();
      assert.deepEqual(
        batches.map(({ content }) => content.intervalCreditWh),
        [210n, 210n, 210n, 210n, 210n],
      );
      for (const [index, batch] of batches.entries()) {
        const before = batches[index - 1]?.content;
        assert.equal(batch.interval, BEGIN + (index + 1) * INTERVAL_S);
        assert.equal(batch.content.prevInterval, before?.interval ?? 0);
        assert.equal(batch.content.prevRoot, before?.root ?? `0x${"0".repeat(64)}`);
        assert.equal(dataHash(await createHasher(), await it.evidenceFile(batch)), batch.content.dataHash);
      }
      await until("all seals are announced", () => sealed.length === 5);
    });

    test("one seal job seals all consecutive intervals that are ready", async (t) => {
      const it = await aggregation(t);
      await it.start({ graceMs: LONG_GRACE_MS });
      await it.commission(3);
      await it.publish([1, 2, 3, 4].flatMap((interval) => report(meters(3), interval, interval * 50)));
      await it.untilSealed(4);
      assert.deepEqual(
        (await it.batches()).map(({ content }) => content.intervalCreditWh),
        [150n, 150n, 150n, 150n],
      );
    });

    test("a meter that says nothing is waited for until the grace is over, and its energy comes later", async (t) => {
      const it = await aggregation(t);
      await it.start({ graceMs: 300 });
      await it.commission(4);
      const talkers = meters(4).slice(1);
      await it.publish([...report(talkers, 1, 100), ...report(talkers, 2, 200)]);
      await it.untilSealed(1);
      assert.equal(
        await it.sealedUntil(),
        BEGIN + INTERVAL_S,
        "nobody has reported beyond the second interval",
      );
      await it.publish(report(["m0"], 2, 1_000));
      await it.untilSealed(2);
      assert.deepEqual(
        (await it.batches()).map(({ content }) => content.intervalCreditWh),
        [300n, 1_300n],
      );
    });

    test("a meter silent for four intervals is no longer waited for, until it speaks", async (t) => {
      const it = await aggregation(t);
      await it.start({ graceMs: 100, flushEveryMs: 50 });
      await it.commission(2);
      await it.publish(report(meters(2), 1, 10));
      await it.untilSealed(1);
      for (let interval = 2; interval <= 6; interval += 1) {
        await it.publish(report(["m1"], interval, interval * 10));
        if (interval > 2) await it.untilSealed(interval - 1);
      }
      // The sixth is complete with m1 alone; the grace could not have begun, for nobody has spoken of the seventh.
      await it.untilSealed(6);
      await it.publish(report(["m0"], 7, 500));
      // The other partition may be written first: a seal counts the silent one as soon as the ledger knows that it spoke.
      await until("what m0 said is written", async () => (await it.readingsWritten()) === 8);
      await it.publish(report(["m1"], 7, 70));
      await it.untilSealed(7);
      assert.equal((await it.batches()).at(-1)?.content.cumulativeCreditWh, 570n);
    });

    test("a late reading of a sealed interval moves a later batch and leaves an adjustment", async (t) => {
      const it = await aggregation(t);
      await it.start({ graceMs: 100 });
      await it.commission(2);
      await it.publish([...report(["m1"], 1, 10), ...report(["m1"], 2, 20), ...report(["m1"], 3, 30)]);
      await it.untilSealed(2);
      const before = await it.batches();
      await it.publish([readingAt("m0", 2 * INTERVAL_S - 20, 70), readingAt("m0", 1 * INTERVAL_S - 5, 40)]);
      await it.publish(report(["m0"], 3, 100));
      await it.untilSealed(3);
      const batches = await it.batches();
      assert.deepEqual(batches.slice(0, 2), before, "a sealed batch never changes");
      assert.deepEqual(
        batches.map(({ content }) => content.intervalCreditWh),
        [10n, 10n, 110n],
      );
      const adjustments = await it.rows(
        "select interval_end, meter_id, seq, delta_wh, reason from adjustment order by interval_end",
      );
      assert.deepEqual(adjustments, [
        { interval_end: BEGIN + 900, meter_id: "m0", seq: 895, delta_wh: 40, reason: "late-reading" },
        { interval_end: BEGIN + 1800, meter_id: "m0", seq: 1780, delta_wh: 70, reason: "late-reading" },
      ]);
    });

    test("several late readings of one sealed interval are told apart, and repeats add nothing", async (t) => {
      const it = await aggregation(t, { partitionsPerRegion: 1 });
      await it.start({ graceMs: 100, flushEveryMs: 100 });
      await it.commission(2);
      await it.publish([1, 2, 3].flatMap((interval) => report(["m1"], interval, interval * 10)));
      await it.untilSealed(2);
      await it.publish([readingAt("m0", 600, 30), readingAt("m0", 500, 20), readingAt("m0", 800, 44)]);
      await it.publish([readingAt("m0", 600, 30), readingAt("m0", 800, 44, { seq: 1 })]);
      await until("the late readings are flushed", async () => (await it.readingsWritten()) === 8);
      const rows = await it.rows("select seq, delta_wh from adjustment order by seq");
      assert.deepEqual(
        rows.map(({ delta_wh: delta }) => delta).reduce((sum, delta) => Number(sum) + Number(delta), 0),
        44,
      );
      assert.deepEqual(rows.at(-1), { seq: 800, delta_wh: 14 });
    });

    test("a wholly silent region seals nothing, and its silence is passed over when it speaks again", async (t) => {
      const it = await aggregation(t);
      await it.start({ graceMs: 100 });
      await it.commission(3);
      await it.publish(report(meters(3), 1, 10));
      await it.untilSealed(1);
      await it.publish(report(meters(3), 40, 90));
      await it.untilSealed(40);
      const batches = await it.batches();
      assert.deepEqual(
        batches.map(({ interval }) => (interval - BEGIN) / INTERVAL_S),
        [1, 40],
      );
      assert.equal(batches[1]?.content.prevInterval, BEGIN + INTERVAL_S);
      assert.equal(batches[1]?.content.cumulativeCreditWh, 270n);
    });

    test("a region that never spoke seals nothing", async (t) => {
      const it = await aggregation(t);
      await it.start({ graceMs: 0, sweepEveryMs: 50 });
      await it.commission(2);
      await it.start({ regions: [REGION], graceMs: 0 });
      assert.deepEqual(await it.batches(), []);
      assert.equal(await it.sealedUntil(), BEGIN);
    });

    test("a fleet that sends many intervals at once is sealed interval by interval", async (t) => {
      const it = await aggregation(t);
      await it.start({ graceMs: 400 });
      await it.commission(5);
      const intervals = Array.from({ length: 12 }, (_, index) => index + 1);
      // Everything is in the log long before the first grace is over: partitions pause before the fifth open boundary,
      // short of the barrier. `m4` keeps silent, so that no interval is complete.
      await it.publish(intervals.flatMap((interval) => report(meters(4), interval, interval * 10)));
      await it.untilSealed(11);
      const batches = await it.batches();
      assert.deepEqual(
        batches.slice(0, 11).map(({ content }) => content.intervalCreditWh),
        Array.from({ length: 11 }, () => 40n),
      );
      const lowered = await it.rows(
        "select count(*) as n from seal_barrier where lowered_from > next_offset",
      );
      assert.ok(Number(lowered[0]?.["n"]) > 0, "the lowered barriers are on record");
    });

    test("a seal job that fails is retried, and the interval is sealed once", async (t) => {
      const it = await aggregation(t);
      let failures = 0;
      const faults = {
        hit(point: string) {
          if (point !== "aggregator.seal.before-commit" || failures === 2) return;
          failures += 1;
          throw new Error("on purpose");
        },
      };
      await it.start({ graceMs: LONG_GRACE_MS, sweepEveryMs: 60_000 }, { faults });
      await it.commission(2);
      await it.publish(report(meters(2), 1, 10));
      await it.untilSealed(1);
      assert.equal(failures, 2);
      assert.equal((await it.batches()).length, 1);
    });

    test("what exceeds the cap is held and carried into later batches", async (t) => {
      const it = await aggregation(t);
      await it.start({ graceMs: LONG_GRACE_MS, regions: [{ ...REGION, capWh: 100n }] });
      await it.commission(2);
      await it.publish(report(meters(2), 1, 90));
      await it.untilSealed(1);
      await it.publish(report(meters(2), 2, 100));
      await it.untilSealed(2);
      await it.publish(report(meters(2), 3, 100));
      await it.untilSealed(3);
      assert.deepEqual(
        (await it.batches()).map(({ content, heldWh }) => [content.intervalCreditWh, heldWh]),
        [
          [100n, 80n],
          [100n, 0n],
          [0n, 0n],
        ],
      );
    });

    test("a swap, a rollover and a reset within a day change no total", async (t) => {
      const it = await aggregation(t);
      await it.start({ graceMs: LONG_GRACE_MS });
      await it.commission(1);
      const common = { servicePoint: "sp-m0", meterId: "m0" };
      const final = (exportWh: number) => ({ importWh: wh(0), exportWh: wh(exportWh) });
      await it.publish(report(["m0"], 1, 500));
      await it.untilSealed(1);
      await it.submit([
        {
          ...common,
          id: "reset",
          type: "reset",
          at: BEGIN + 1000,
          epoch: 0,
          final: final(520),
          initial: final(0),
        },
      ]);
      await it.publish([readingAt("m0", 1800, 30, { epoch: 1 })]);
      await it.untilSealed(2);
      await it.submit([
        {
          ...common,
          id: "swap",
          type: "swap",
          at: BEGIN + 2000,
          final: final(50),
          device: device("m0.1", 999_990n),
        },
      ]);
      await it.publish(report(["m0.1"], 3, 15));
      await it.untilSealed(3);
      assert.deepEqual(
        (await it.batches()).map(({ content }) => content.cumulativeCreditWh),
        [500n, 550n, 595n],
      );
    });

    test("a batch is reproduced from the log up to its offset vector", async (t) => {
      const it = await aggregation(t);
      await it.start({ graceMs: 100, flushEveryRecords: 7 });
      await it.commission(5);
      for (let interval = 1; interval <= 4; interval += 1) {
        const readings = meters(5)
          .slice(interval % 2)
          .map((id, i) => readingAt(id, interval * 900, interval * (50 + i)));
        await it.publish([
          ...readings,
          ...readings.slice(2),
          readingAt("m3", interval * 900 - 400, interval * 50 - 10),
        ]);
        await it.publish(report(["m4"], interval + 1, (interval + 1) * 60));
        await it.untilSealed(interval);
      }
      const hasher = await createHasher();
      let previous;
      for (const batch of await it.batches()) {
        const evidence = await it.evidence(batch);
        const states = new Map<string, ServicePoint>();
        for (const { partition, nextOffset } of evidence.offsets) {
          for (const record of await it.eventLog.read(
            { topic: regionTopic(REGION.name), partition },
            0n,
            1000,
          )) {
            if (record.offset >= nextOffset) break;
            const parsed = parseLogRecord(record);
            if (parsed.kind === "registry") {
              const applied = applyRecord(states.get(parsed.record.servicePoint), parsed.record, INTERVAL_S);
              assert.ok(applied.kind === "applied");
              states.set(parsed.record.servicePoint, applied.state);
            }
            if (parsed.kind !== "readings") continue;
            for (const [index, reading] of parsed.readings.entries()) {
              const state = states.get(parsed.servicePoint!)!;
              applyReading(state, reading, { offset: record.offset, index }, INTERVAL_S);
            }
          }
        }
        const rebuilt = buildBatch(hasher, previous, {
          ...evidence,
          boundaries: boundaryValues([...states.values()], batch.interval),
        });
        assert.deepEqual(rebuilt.content, batch.content);
        previous = evidence;
      }
    });

    test("a region whose meters are all retired seals what they measured, after the grace", async (t) => {
      const it = await aggregation(t);
      await it.start({ graceMs: 100 });
      await it.commission(3);
      await it.publish(report(meters(3), 1, 10));
      await it.untilSealed(1);
      const retire = (meterId: string, seconds: number, exportWh: number): RegistryRecord => ({
        id: `retire-${meterId}`,
        type: "retire",
        servicePoint: `sp-${meterId}`,
        meterId,
        at: BEGIN + seconds,
        final: { importWh: wh(0), exportWh: wh(exportWh) },
      });
      await it.submit([retire("m0", 1000, 15), retire("m1", 1000, 15)]);
      await it.publish(report(["m2"], 2, 20));
      await it.submit([retire("m2", 2000, 27)]);
      await it.untilSealed(3);
      assert.deepEqual(
        (await it.batches()).map(({ content }) => content.cumulativeCreditWh),
        [30n, 50n, 57n],
      );
    });
  });
}

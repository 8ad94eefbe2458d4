import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeReadings } from "../domain/metering/codec.ts";
import { partitionOf } from "../event-log/event-log.ts";
import {
  BEGIN,
  commissionRecord,
  device,
  INTERVAL_S,
  readingAt,
  REGION,
} from "../tests/support/aggregation.ts";
import { PartitionMemory } from "./partition-memory.ts";

const nothing = () => ({ recordIds: new Set<string>(), meterIds: new Set<string>() });

function memory(...meterIds: string[]): PartitionMemory {
  const identity = { regionId: 1, region: REGION.name, topic: "readings.bangkok", partition: 0 };
  const it = new PartitionMemory(
    { ...identity, partitionsPerRegion: 1, intervalLengthS: INTERVAL_S },
    [],
    BEGIN,
  );
  for (const meterId of meterIds) {
    assert.equal(it.applyRegistryRecord(commissionRecord(meterId), 0n, nothing()), undefined);
  }
  it.flushed();
  return it;
}

const end = (interval: number) => BEGIN + interval * INTERVAL_S;

test("what came after the flush and turns out to be sealed is late", () => {
  const it = memory("m0", "m1");
  it.applyReadings([readingAt("m0", 600, 60), readingAt("m1", 600, 10)], 1n, undefined);
  it.flushed();
  it.applyReadings([readingAt("m0", 700, 70), readingAt("m0", 1000, 100)], 2n, undefined);
  it.seal(end(1));
  assert.deepEqual(
    it.changes.late.map(({ meterId, seq, creditWh }) => [meterId, seq, creditWh]),
    [["m0", 700, 70n]],
  );
});

test("what was flushed before the seal is not late", () => {
  const it = memory("m0");
  it.applyReadings([readingAt("m0", 600, 60)], 1n, undefined);
  it.flushed();
  it.seal(end(1));
  it.applyReadings([readingAt("m0", 1000, 100)], 2n, undefined);
  assert.deepEqual(it.changes.late, []);
});

test("what comes after the seal is late at once, and the anchor stays", () => {
  const it = memory("m0");
  it.seal(end(2));
  it.applyReadings([readingAt("m0", 1700, 60), readingAt("m0", 800, 20)], 1n, undefined);
  assert.deepEqual(
    it.changes.late.map(({ creditWh }) => creditWh),
    [60n, 20n],
  );
  assert.deepEqual(
    it.dirtyStates()[0]?.points.map(({ t }) => t - BEGIN),
    [1700],
  );
});

test("progress tells how many count and how many are awaited, until all of them would be silent", () => {
  const it = memory("m0", "m1");
  it.applyReadings([readingAt("m0", 900, 60)], 1n, undefined);
  const { firstEnd, counting, waiting } = it.progress(undefined);
  assert.equal(firstEnd, end(1));
  assert.deepEqual(counting, [2, 2, 2, 2, 1, 0, 0, 0, 0]);
  assert.deepEqual(waiting, [1, 2, 2, 2, 1, 0, 0, 0, 0]);
  assert.equal(it.completeUntil(), undefined);
  it.applyReadings([readingAt("m0", 1801, 60), readingAt("m1", 1801, 60)], 2n, undefined);
  assert.equal(it.completeUntil(), end(2));
});

test("registry records that do not belong here, or name what exists, are refused", () => {
  const it = memory("m0");
  const known = { recordIds: new Set<string>(), meterIds: new Set(["m7"]) };
  const refusal = (record: Parameters<PartitionMemory["applyRegistryRecord"]>[0]) =>
    it.applyRegistryRecord(record, 1n, known);
  assert.equal(refusal({ ...commissionRecord("m1"), region: "central" }), "wrong-region");
  assert.equal(refusal(commissionRecord("m7")), "meter-exists");
  assert.equal(refusal({ ...commissionRecord("m0"), servicePoint: "sp-other" }), "meter-exists");
  assert.equal(refusal({ ...commissionRecord("m1"), servicePoint: "sp-m0" }), "service-point-exists");
  const swap = { id: "swap", type: "swap", servicePoint: "sp-m0", at: BEGIN, meterId: "m0" } as const;
  const final = { importWh: device("m0").initial.importWh, exportWh: device("m0").initial.exportWh };
  assert.equal(refusal({ ...swap, final, device: device("m7") }), "meter-exists");
});

test("a record of a service point of another partition is refused", () => {
  const identity = { regionId: 1, region: REGION.name, topic: "t", intervalLengthS: INTERVAL_S };
  const elsewhere = 1 - partitionOf("sp-m0", 2);
  const it = new PartitionMemory({ ...identity, partitionsPerRegion: 2, partition: elsewhere }, [], BEGIN);
  assert.equal(it.applyRegistryRecord(commissionRecord("m0"), 0n, nothing()), "wrong-partition");
});

test("a registry record that is repeated takes effect once", () => {
  const it = memory();
  const record = commissionRecord("m0");
  const asked = nothing();
  it.applyRegistryRecord(record, 0n, asked);
  assert.equal(it.applyRegistryRecord(record, 1n, asked), undefined);
  assert.equal(it.changes.records.length, 1);
  it.flushed();
  const other = { ...record, ...commissionRecord("m1"), id: record.id };
  assert.equal(it.applyRegistryRecord(other, 2n, asked), undefined);
  assert.equal(it.changes.records.length, 0, "nor with another content, behind a flush amid the batch");
  const known = { recordIds: new Set([record.id]), meterIds: new Set(["m0"]) };
  assert.equal(it.applyRegistryRecord(record, 3n, known), undefined);
  assert.equal(it.changes.records.length, 0);
});

test("every reading is counted under one outcome, and quarantine names its place in the log", () => {
  const it = memory("m0");
  const one = readingAt("m0", 600, 60);
  it.applyReadings([one, one, readingAt("m0", 600, 60, { seq: 9_999 })], 5n, undefined);
  it.applyReadings([{ ...one, exportWh: readingAt("m0", 600, 61).exportWh }], 6n, undefined);
  it.applyReadings([readingAt("m0", 700, 1, { epoch: 1 }), readingAt("m9", 700, 1)], 7n, undefined);
  assert.deepEqual(it.changes.counts, {
    readings: 6,
    accepted: 1,
    stale: 1,
    duplicates: 1,
    waiting: 1,
    quarantined: 2,
  });
  assert.deepEqual(
    it.changes.quarantined.map(({ offset, index, meterId, reason }) => [offset, index, meterId, reason]),
    [
      [6n, 0, "m0", "equivocation"],
      [7n, 1, "m9", "meter-unknown"],
    ],
  );
  assert.deepEqual([...it.changes.flagged], ["m0"]);
});

test("an array of readings is applied reading by reading", () => {
  const payload = [600, 700].map((t) => `{"seq":${t},"t":${BEGIN + t},"importWh":0,"exportWh":${t}}`).join();
  const decoded = decodeReadings("m0", new TextEncoder().encode(`[${payload}]`));
  assert.ok(decoded.ok);
  const it = memory("m0");
  it.applyReadings(decoded.readings, 1n, undefined);
  assert.equal(it.dirtyStates()[0]?.points[0]?.exportWh, 700n);
});

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { wh } from "../domain/metering/units.ts";
import { findMeter, REGISTRY_CHANNEL } from "../ledger/meters.ts";
import { ensureRegions } from "../ledger/regions.ts";
import { listen } from "../service/database.ts";
import {
  Aggregation,
  BEGIN,
  commissionRecord,
  device,
  readingAt,
  REGION,
} from "../tests/support/aggregation.ts";
import { until } from "../tests/support/until.ts";

const it = await Aggregation.open();
after(() => it.close());
const heard: (string | undefined)[] = [];
const listener = await listen(it.url, REGISTRY_CHANNEL, (meterId) => heard.push(meterId));
after(() => listener.stop());
await it.start({ graceMs: 600_000, flushEveryMs: 50 });

const registers = (exportWh: number) => ({ importWh: wh(0), exportWh: wh(exportWh) });
const encode = (text: string) => new TextEncoder().encode(text);

test("a commissioned meter is in the registry, and its change is announced", async () => {
  await it.submit([commissionRecord("m0")]);
  const meter = await findMeter(it.pool, "m0");
  assert.equal(meter?.servicePoint, "sp-m0");
  assert.equal(meter?.commissionedAt, BEGIN);
  assert.equal(meter?.region, REGION.name);
  assert.equal(meter?.retiredAt, undefined);
  await until("the registry's listeners hear of it", () => heard.includes("m0"));
});

test("a reset moves the epoch, a swap retires the meter and brings the next, a retirement ends it", async () => {
  const common = { servicePoint: "sp-m0", meterId: "m0" };
  await it.submit([
    {
      ...common,
      id: "reset-1",
      type: "reset",
      at: BEGIN + 10,
      epoch: 0,
      final: registers(0),
      initial: registers(0),
    },
  ]);
  assert.equal((await findMeter(it.pool, "m0"))?.epoch, 1);
  await it.submit([
    { ...common, id: "swap-1", type: "swap", at: BEGIN + 20, final: registers(0), device: device("m0.1") },
  ]);
  assert.equal((await findMeter(it.pool, "m0"))?.retiredAt, BEGIN + 20);
  const next = await findMeter(it.pool, "m0.1");
  assert.deepEqual([next?.epoch, next?.servicePoint, next?.commissionedAt], [0, "sp-m0", BEGIN + 20]);
  assert.equal(next?.account, (await findMeter(it.pool, "m0"))?.account);
  const retire = { id: "retire-1", servicePoint: "sp-m0", meterId: "m0.1", final: registers(0) };
  await it.submit([{ ...retire, type: "retire", at: BEGIN + 30 }]);
  assert.equal((await findMeter(it.pool, "m0.1"))?.retiredAt, BEGIN + 30);
});

test("a refused record says why, and changes nothing", async () => {
  const record = { ...commissionRecord("m0"), servicePoint: "sp-fresh" };
  await assert.rejects(it.submit([record]), { code: "registry-record-refused", message: /meter-exists/ });
  const version = await it.rows("select registry_version as n from region");
  assert.deepEqual(version, [{ n: 4 }], "only records that took effect raise the version");
});

test("a record that no reader could read is not written", async () => {
  const { device: meter, ...record } = commissionRecord("m9");
  const beyond = { ...meter, initial: registers(2 ** 53) };
  await assert.rejects(it.submit([{ ...record, device: beyond }]), {
    code: "registry-record-malformed",
    message: /exportWh/,
  });
});

test("a record written twice takes effect once", async () => {
  const record = commissionRecord("m1");
  await it.submit([record]);
  await it.submit([record]);
  const rows = await it.rows("select refused from registry_record where record_id = $1", [record.id]);
  assert.deepEqual(rows, [{ refused: null }]);
});

test("the last birth certificate of a meter is kept, and one that PostgreSQL cannot hold does no harm", async () => {
  const births = [
    '{"firmware":"1.0"}',
    '{"bad":"\\u0000"}',
    '{"bad":"\\ud800"}',
    "no json",
    '{"firmware":"1.1"}',
  ];
  await it.publishPayloads(
    births.map((text) => ["m1", encode(text)] as const),
    REGION.name,
    "birth",
  );
  await until("the last one is kept", async () => {
    const [row] = await it.rows("select payload from meter_birth where meter_id = 'm1'");
    return (row?.["payload"] as { firmware?: string } | undefined)?.firmware === "1.1";
  });
});

test("a meter that contradicts itself is quarantined and flagged, and what it said first stays", async () => {
  await it.publish([readingAt("m1", 600, 50), readingAt("m1", 600, 51)]);
  await until("it is flagged", async () => (await findMeter(it.pool, "m1"))?.flagged === "equivocation");
  const rows = await it.rows("select meter_id, seq, reason from quarantine");
  assert.deepEqual(rows, [{ meter_id: "m1", seq: 600, reason: "equivocation" }]);
});

test("events, load profiles and unreadable records do not stop a partition", async () => {
  await it.publishPayloads([["m1", encode("{}")]], REGION.name, "ev");
  await it.publishPayloads([["m1", encode("{}")]], REGION.name, "lp");
  await it.publishPayloads([["m1", encode("garbage")]], REGION.name, "rd");
  await it.publishPayloads([["m1", encode("garbage")]], REGION.name, "meter");
  await it.publish([readingAt("m1", 700, 60)]);
  const accepted = async () => (await it.rows("select sum(accepted) as n from partition_progress"))[0]?.["n"];
  await until("what follows is counted", async () => Number(await accepted()) === 2);
});

test("a region that the ledger knows under another name is refused", async () => {
  await ensureRegions(it.pool, [REGION]);
  await assert.rejects(ensureRegions(it.pool, [{ ...REGION, name: "elsewhere" }]), {
    code: "region-differs",
  });
});

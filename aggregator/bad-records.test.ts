import assert from "node:assert/strict";
import { test } from "node:test";
import { Registry } from "prom-client";
import { encodeReadings, MAX_READINGS_PER_PAYLOAD } from "../domain/metering/codec.ts";
import { wh } from "../domain/metering/units.ts";
import {
  Aggregation,
  commissionRecord,
  INTERVAL_S,
  MODULUS_WH,
  readingAt,
} from "../tests/support/aggregation.ts";
import { until } from "../tests/support/until.ts";

const HALTED = "aggregator_halted_partitions";

test("a record that takes effect in the future is refused, and its partition goes on", async (t) => {
  const it = await Aggregation.open({ partitionsPerRegion: 1 });
  t.after(() => it.close());
  await it.start({ graceMs: 100 });
  await it.commission(2);
  const inAYear = Math.floor(Date.now() / 1000) + 365 * 86_400;
  const ahead = { code: "registry-record-refused", message: /takes-effect-in-the-future/ };
  const common = { id: "retire-m0", servicePoint: "sp-m0", meterId: "m0" };
  const final = { importWh: wh(0), exportWh: wh(0) };
  await assert.rejects(it.submit([{ ...common, type: "retire", at: inAYear, final }]), ahead);
  await assert.rejects(it.submit([{ ...commissionRecord("m2"), at: inAYear }]), ahead);
  await it.publish(["m0", "m1"].map((meterId) => readingAt(meterId, INTERVAL_S, 10)));
  await it.untilSealed(1);
});

test("a partition whose position does not fit the log is told as halted for as long as it is held", async (t) => {
  const it = await Aggregation.open({ partitionsPerRegion: 1 });
  t.after(() => it.close());
  const first = await it.start();
  await it.commission(1);
  await first.stop();
  await it.pool.query("update consumer_offset set mark = 'of another log'");
  const metrics = new Registry();
  const halted = async () =>
    (await metrics.getMetricsAsJSON()).find(({ name }) => name === HALTED)?.values[0];
  const second = await it.start({}, { metrics });
  await until("it halts", async () => (await halted())?.value === 1);
  await second.stop();
  assert.equal((await halted())?.value, 0);
});

test("a meter that sends nothing but contradictions does not pile them up in memory", async (t) => {
  const it = await Aggregation.open({ partitionsPerRegion: 1 });
  t.after(() => it.close());
  await it.start({ graceMs: 600_000 });
  await it.commission(1);
  const payloads = 40;
  const nonsense = Array.from({ length: payloads * MAX_READINGS_PER_PAYLOAD }, (_, seq) =>
    readingAt("m0", 10, MODULUS_WH, { seq }),
  );
  await it.publishPayloads(
    Array.from({ length: payloads }, (_, payload) => {
      const first = payload * MAX_READINGS_PER_PAYLOAD;
      return ["m0", encodeReadings(nonsense.slice(first, first + MAX_READINGS_PER_PAYLOAD))] as const;
    }),
  );
  // Neither the time nor the number of records that a flush waits for has come.
  await until("they are written", async () => {
    const [row] = await it.rows("select count(*) as n from quarantine");
    return Number(row?.["n"]) >= 10_000;
  });
});

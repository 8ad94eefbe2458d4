import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test, type TestContext } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { pino } from "pino";
import { Registry } from "prom-client";
import { startInflux } from "../../deploy/stack/influxdb.ts";
import { encodeReadings } from "../../domain/metering/codec.ts";
import { wh } from "../../domain/metering/units.ts";
import type { NewRecord } from "../../event-log/event-log.ts";
import { PostgresEventLog } from "../../event-log/postgres/postgres-event-log.ts";
import { DEAD_LETTER_TOPIC, INGEST_HEADERS, regionTopic } from "../../event-log/topics.ts";
import { storedOffsets } from "../../ledger/consumer-offsets.ts";
import { openPool } from "../../service/database.ts";
import { noFaults } from "../../service/faults.ts";
import { migrate } from "../../service/migrate.ts";
import { createTestDatabase } from "../../tests/support/postgres.ts";
import { until } from "../../tests/support/until.ts";
import { recorderBalance } from "../recorder-balance.ts";
import { Recorder } from "../recorder.ts";
import { AnsweringProxy } from "../tests/answering-proxy.ts";
import { DAY, ownNamespace } from "../tests/influx-fixture.ts";
import { InfluxTimeSeries } from "./influx-time-series.ts";

const READINGS_PER_RECORD = 100;
const GROWTH_BOUND_BYTES = 4 * 1024 * 1024;

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

const log = pino({ level: "silent" });
const folder = await mkdtemp(join(tmpdir(), "gridroot-influx-recorder-"));
const server = await startInflux({ dataDir: folder });
const url = await createTestDatabase();
const pool = openPool(
  { connectionString: url, applicationName: "test", maxConnections: 4, schema: "ledger" },
  () => {},
);
await migrate(pool, "ledger", new URL("../../ledger/migrations/", import.meta.url));
const eventLog = await PostgresEventLog.open({ connectionString: url, leaseMs: 1_000, pollMs: 100 }, { log });
await eventLog.ensureTopics([{ topic: DEAD_LETTER_TOPIC, partitions: 1 }]);
const appender = await eventLog.openAppender();
const proxy = new AnsweringProxy(server.url);
const series = await InfluxTimeSeries.open(
  {
    ...{ url: await proxy.listen(), org: server.org, token: server.token, namespace: ownNamespace() },
    ...{ marksUrl: url, requestTimeoutMs: 5_000 },
  },
  { log },
);
after(async () => {
  await eventLog.close();
  await series.close();
  await pool.end();
  await proxy.close();
  await server.stop();
  await rm(folder, { recursive: true, force: true });
});

/** Records of 100 readings each, of as many meters, from the `first` on. */
function recordsOf(region: string, first: number, count: number): NewRecord[] {
  return Array.from({ length: count }, (_, k) => {
    const meterId = `${region}-${(first + k) % 50}`;
    const readings = Array.from({ length: READINGS_PER_RECORD }, (_, i) => {
      const seq = (first + k) * READINGS_PER_RECORD + i;
      const registers = { importWh: wh(seq), exportWh: wh(0) };
      return { meterId, epoch: 0, seq, t: DAY + 1 + (seq % 86_000), ...registers, status: 0 };
    });
    const headers = { [INGEST_HEADERS.kind]: "rd" };
    return {
      ...{ topic: regionTopic(region), partition: k % 2, key: meterId },
      ...{ headers, value: encodeReadings(readings) },
    };
  });
}

async function passed(region: string): Promise<number> {
  const rows = await storedOffsets(pool, regionTopic(region));
  return Number(rows.reduce((sum, { nextOffset }) => sum + nextOffset, 0n));
}

async function metric(registry: Registry, name: string): Promise<number> {
  const found = await registry.getSingleMetric(name)?.get();
  return found?.values.reduce((sum, { value }) => sum + value, 0) ?? 0;
}

async function startRecorder(t: TestContext, region: string, registry: Registry, lines: string[]) {
  await eventLog.ensureTopics([{ topic: regionTopic(region), partitions: 2 }]);
  const recorder = new Recorder(
    { regions: [region], firstPauseMs: 50, watchEveryMs: 100 },
    {
      ...{ pool, eventLog, timeSeries: series, metrics: registry, faults: noFaults },
      log: pino({ level: "info" }, { write: (line: string) => lines.push(line) }),
    },
  );
  t.after(() => recorder.stop());
  await recorder.start();
}

function heapBytes(): number {
  collectGarbage();
  return process.memoryUsage().heapUsed;
}

test("while InfluxDB is gone the offset stays and memory is flat; when it returns nothing was lost", async (t) => {
  const [region, registry, lines] = ["away", new Registry(), []];
  await startRecorder(t, region, registry, lines);
  await appender.append(recordsOf(region, 0, 20));
  await until("the first are recorded", async () => (await passed(region)) === 20);

  await server.kill();
  await appender.append(recordsOf(region, 20, 20));
  await until("writes fail", async () => (await metric(registry, "recorder_failures_total")) >= 2);
  const before = heapBytes();
  for (let first = 40; first < 1_040; first += 200) await appender.append(recordsOf(region, first, 200));
  const failures = await metric(registry, "recorder_failures_total");
  await until(
    "it goes on trying",
    async () => (await metric(registry, "recorder_failures_total")) > failures,
  );
  await until("the lag shows", async () => (await metric(registry, "recorder_lag_records")) === 1_020);
  assert.equal(await passed(region), 20);
  assert.ok(heapBytes() - before < GROWTH_BOUND_BYTES, "what has come in meanwhile is not held in memory");
  assert.equal(await metric(registry, "recorder_lasting_failures"), 0);

  await server.start();
  await until("all is recorded", async () => (await passed(region)) === 1_040, 60_000);
  assert.equal(await series.countReadings(region), BigInt(1_040 * READINGS_PER_RECORD));
  assert.deepEqual(await recorderBalance(pool), []);
});

test("a token that is refused is an alarm and no dead letter, and recording goes on once it works again", async (t) => {
  const [region, registry, lines] = ["refused", new Registry(), [] as string[]];
  const denial = '{"code":"unauthorized","message":"unauthorized access"}';
  proxy.treat = ({ path }) => (path === "/api/v2/write" ? { status: 503, body: "" } : "pass");
  t.after(() => (proxy.treat = () => "pass"));
  await startRecorder(t, region, registry, lines);
  await appender.append(recordsOf(region, 0, 10));
  await until("writes fail", async () => (await metric(registry, "recorder_failures_total")) >= 1);
  proxy.treat = ({ path }) => (path === "/api/v2/write" ? { status: 401, body: denial } : "pass");
  await until("the alarm is raised", async () => (await metric(registry, "recorder_lasting_failures")) === 1);
  const failures = await metric(registry, "recorder_failures_total");
  await until(
    "it goes on trying",
    async () => (await metric(registry, "recorder_failures_total")) > failures + 1,
  );
  assert.equal(await passed(region), 0);
  const alarms = lines.filter((line) => line.includes("recording waits for an operator"));
  assert.equal(alarms.length, 1);
  assert.match(alarms[0]!, /InfluxDB answered 401 \(unauthorized\): unauthorized access/);
  assert.ok(!lines.join("").includes(server.token));

  proxy.treat = () => "pass";
  await until("all is recorded", async () => (await passed(region)) === 10);
  assert.equal(await metric(registry, "recorder_lasting_failures"), 0);
  assert.equal(await series.countReadings(region), BigInt(10 * READINGS_PER_RECORD));
  const letters = await eventLog.bounds({ topic: DEAD_LETTER_TOPIC, partition: 0 });
  assert.equal(letters.next, letters.first);
});

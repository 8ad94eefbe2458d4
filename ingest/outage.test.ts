import assert from "node:assert/strict";
import { after, test } from "node:test";
import { until } from "../tests/support/until.ts";
import {
  addMeters,
  assertCountersAddUp,
  loggedSeqs,
  openBackend,
  rdTopic,
  reading,
  SECRET,
  startWorker,
} from "./tests/ingest-under-test.ts";
import { LoadMeter } from "./tests/load-meter.ts";
import { OwnPostgres } from "./tests/own-postgres.ts";
import { publishPacket, RawClient } from "./tests/raw-client.ts";

const server = await OwnPostgres.start();
const backend = await openBackend(server.url);
const LIMITS = { appendTimeoutMs: 400, logRetryMinMs: 50, logRetryMaxMs: 200, stopTimeoutMs: 300 };
const worker = await startWorker(backend, LIMITS);
const meters = ["a", "b", "c"].map(
  (name) => new LoadMeter({ meterId: `load-${name}`, port: worker.port, qos: 1 }),
);
await addMeters(backend.pool, "probe", "late", ...meters.map(({ meterId }) => meterId));
after(async () => {
  for (const meter of meters) meter.abandon();
  server.resume();
  await worker.stop();
  await backend.close();
  await server.stop();
});

/** What a client sees while the log is away: an error instead of an acknowledgement, then code 3. */
async function seesOutage(client: RawClient): Promise<void> {
  client.send(publishPacket(rdTopic("probe"), reading(1), 1), publishPacket(rdTopic("probe"), reading(2), 2));
  await client.waitForClose();
  assert.equal(client.count("puback"), 0);
  const refused = new RawClient(worker.port);
  assert.equal(await refused.connect("probe", SECRET), 3);
  await refused.waitForClose();
}

async function connectedProbe(): Promise<RawClient> {
  let client = new RawClient(worker.port);
  await until("the worker accepts connections", async () => {
    if ((await client.connect("probe", SECRET)) === 0) return true;
    client = new RawClient(worker.port);
    return false;
  });
  return client;
}

async function outage(begin: () => Promise<void> | void, end: () => Promise<void> | void): Promise<void> {
  const progress = meters.map(({ acknowledged }) => acknowledged.size);
  const hasMoved = (): boolean =>
    meters.every(({ acknowledged }, at) => acknowledged.size > progress[at]! + 10);
  await until("the load is under way", hasMoved);
  const client = await connectedProbe();
  await begin();
  await seesOutage(client);
  assert.equal(worker.ingest.logAvailable, false);
  await end();
  const again = await connectedProbe();
  again.send(publishPacket(rdTopic("probe"), reading(1), 1), publishPacket(rdTopic("probe"), reading(2), 2));
  await again.waitFor("puback", 2);
  again.close();
  for (const [at, { acknowledged }] of meters.entries()) progress[at] = acknowledged.size;
  await until("the load goes on", hasMoved);
}

test("while the log is paused or dead nothing is acknowledged; when it is back nothing is lost", async () => {
  const running = Promise.all(meters.map((meter) => meter.run()));
  await outage(
    () => server.pause(),
    () => server.resume(),
  );
  await outage(
    () => server.kill(),
    () => server.restart(),
  );
  for (const meter of meters) meter.finish();
  await running;
  await assertCountersAddUp(worker);
  for (const { meterId, acknowledged } of meters) {
    const firsts = [...new Set(await loggedSeqs(worker.eventLog, meterId))];
    assert.deepEqual(
      [...acknowledged].filter((seq) => !firsts.includes(seq)),
      [],
    );
    assert.deepEqual(
      firsts,
      firsts.map((_, index) => index + 1),
    );
  }
});

test("a CONNECT while only the registry is silent is answered with code 3", async () => {
  server.pause();
  const client = new RawClient(worker.port);
  assert.equal(await client.connect("late", SECRET), 3);
  server.resume();
  await connectedProbe().then((probe) => probe.close());
});

test("a CONNECT while only the log is silent is answered with code 3", async () => {
  const client = await connectedProbe();
  const lock = await backend.pool.connect();
  await lock.query("begin");
  await lock.query("lock table log.head in access exclusive mode");
  await seesOutage(client);
  await lock.query("rollback");
  lock.release();
  await connectedProbe().then((probe) => probe.close());
});

test("a claim or a look-up that the ledger does not answer is given up, so that they do not pile up", async () => {
  await addMeters(backend.pool, "stuck");
  const lock = await backend.pool.connect();
  try {
    for (const [table, meterId] of [
      ["mqtt_session", "late"],
      ["meter", "stuck"],
    ] as const) {
      await lock.query("begin");
      await lock.query(`lock table ${table} in access exclusive mode`);
      const asked = async (): Promise<boolean> => {
        assert.equal(await new RawClient(worker.port).connect(meterId, SECRET), 3);
        const { rowCount } = await lock.query(
          "select 1 from pg_locks where relation = $1::regclass and not granted",
          [table],
        );
        return rowCount === 2;
      };
      await until("a later attempt asks anew instead of waiting with the first", asked, 5000);
      await lock.query("rollback");
    }
  } finally {
    lock.release(true);
  }
  await connectedProbe().then((probe) => probe.close());
});

test("a stop while the log does not answer is bounded", async () => {
  const other = await startWorker(backend, { ...LIMITS, appendTimeoutMs: 60_000 });
  const client = new RawClient(other.port);
  assert.equal(await client.connect("late", SECRET), 0);
  server.pause();
  client.send(publishPacket(rdTopic("late"), reading(1), 1));
  await until("it is held", async () => (await other.metric("ingest_publish_in_flight")) === 1);
  const beganMs = performance.now();
  await assert.rejects(other.ingest.stop(), { code: "listener-stop-timeout" });
  assert.ok(performance.now() - beganMs < 3000);
  assert.equal(client.count("puback"), 0);
  await assertCountersAddUp(other);
  server.resume();
  await other.stop();
});

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { createTestDatabase } from "../tests/support/postgres.ts";
import { until } from "../tests/support/until.ts";
import {
  addMeters,
  assertCountersAddUp,
  loggedSeqs,
  openBackend,
  rdTopic,
  readDeadLetters,
  reading,
  readRegion,
  SECRET,
  startWorker,
} from "./tests/ingest-under-test.ts";
import { LoadMeter } from "./tests/load-meter.ts";
import { publishPacket, RawClient } from "./tests/raw-client.ts";

const backend = await openBackend(await createTestDatabase());
after(() => backend.close());

/** A small generator with a seed (mulberry32), so that a storm can be repeated. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * One connection of an ill-behaved meter: all levels of service, repeats, garbage, and an end that waits for a first
 * acknowledgement or is sudden, after so few publishes that its socket is still read and the end is seen.
 */
async function misbehave(port: number, meterId: string, next: () => number, waits: boolean): Promise<void> {
  const client = new RawClient(port);
  if ((await client.connect(meterId, SECRET)) !== 0) return;
  for (let id = 1; id <= (waits ? 40 : 10) && !client.isClosed; id += 1) {
    const qos = Math.floor(next() * 3) as 0 | 1 | 2;
    const topic = next() < 0.2 ? rdTopic("somebody-else") : rdTopic(meterId);
    const payload = next() < 0.2 ? "garbage" : reading(id);
    client.send(publishPacket(topic, payload, id, { qos }));
    if (qos === 2 && next() < 0.5) client.send(publishPacket(topic, payload, id, { qos, dup: true }));
    if (next() < 0.1) await new Promise((done) => setImmediate(done));
  }
  if (waits) await client.waitFor("puback", 1).catch(() => {});
  client.close();
}

/** Lets no append end until the returned function is called. */
async function holdAppends(): Promise<() => Promise<void>> {
  const connection = await backend.pool.connect();
  await connection.query("begin");
  await connection.query("select from log.head for update");
  return async () => {
    await connection.query("rollback");
    connection.release();
  };
}

/** Ends the connection of each append that waits for what `holdAppends` holds; whether there was one. */
async function cutHeldAppends(): Promise<boolean> {
  const { rowCount } = await backend.pool.query(
    `select pg_terminate_backend(pid) from pg_stat_activity
      where application_name = 'gridroot append' and datname = current_database() and wait_event_type = 'Lock'`,
  );
  return rowCount !== null && rowCount > 0;
}

test("after a storm with lost connections and a failing log, and in the midst of it, the counters add up", async () => {
  const worker = await startWorker(backend, { logRetryMinMs: 20 });
  after(() => worker.stop());
  const meterIds = Array.from({ length: 12 }, (_, index) => `storm-${index}`);
  await addMeters(backend.pool, ...meterIds);
  const looks = setInterval(() => void assertCountersAddUp(worker), 1);
  after(() => clearInterval(looks));
  const next = random(20261121);
  for (let round = 0; round < 6; round += 1) {
    await until("the log takes appends", async () => (await worker.metric("ingest_log_available")) === 1);
    const release = await holdAppends();
    const storm = meterIds.map((meterId, index) => misbehave(worker.port, meterId, next, index % 2 === 0));
    if (round % 2 === 0) {
      await until("an append has failed", cutHeldAppends);
    } else {
      // Those that do not wait are gone before what they published is durable.
      await Promise.all(storm.filter((_, index) => index % 2 === 1));
      await until(
        "half of the connections are closed",
        async () => (await worker.metric("ingest_connections")) <= meterIds.length / 2,
      );
    }
    await release();
    await Promise.all(storm);
  }
  await until("nothing is in flight", async () => (await worker.metric("ingest_publish_in_flight")) === 0);
  clearInterval(looks);
  await assertCountersAddUp(worker);
  for (const name of ["repeated", "failed", "qos0", "unacknowledgeable", "dead_lettered"]) {
    assert.ok((await worker.metric(`ingest_publish_${name}_total`)) > 0, `${name} occurred`);
  }
  assert.ok(
    (await readRegion(worker.eventLog)).length >= (await worker.metric("ingest_publish_appended_total")),
  );
  assert.ok(
    (await readDeadLetters(worker.eventLog)).length >=
      (await worker.metric("ingest_publish_dead_lettered_total")),
  );
});

test("a stop under load acknowledges or drops what it has taken up, and loses nothing that was acknowledged", async () => {
  const worker = await startWorker(backend);
  const meters = [1, 2, 3].map(
    (index) => new LoadMeter({ meterId: `stop-${index}`, port: worker.port, qos: 1 }),
  );
  after(() => meters.forEach((meter) => meter.abandon()));
  await addMeters(backend.pool, ...meters.map(({ meterId }) => meterId));
  const running = Promise.all(meters.map((meter) => meter.run()));
  await until("all are under way", () => meters.every(({ acknowledged }) => acknowledged.size > 20));
  await worker.ingest.stop();
  await assertCountersAddUp(worker);
  assert.equal(await worker.metric("ingest_publish_in_flight"), 0);
  assert.equal(await worker.metric("ingest_publish_failed_total"), 0, "what was taken up became durable");
  assert.equal(await worker.metric("ingest_publish_unacknowledgeable_total"), 0, "and was acknowledged");
  assert.equal(await worker.metric("ingest_connections"), 0);
  for (const { meterId, acknowledged } of meters) {
    const logged = new Set(await loggedSeqs(worker.eventLog, meterId));
    assert.deepEqual(
      [...acknowledged].filter((seq) => !logged.has(seq)),
      [],
    );
  }
  const again = await startWorker(backend, { port: worker.port });
  for (const meter of meters) meter.finish();
  await running;
  await again.stop();
  await worker.stop();
});

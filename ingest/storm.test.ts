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

/** One connection of an ill-behaved meter: all levels of service, repeats, garbage, and a sudden end. */
async function misbehave(port: number, meterId: string, next: () => number): Promise<void> {
  const client = new RawClient(port);
  if ((await client.connect(meterId, SECRET)) !== 0) return;
  for (let id = 1; id <= 40 && !client.isClosed; id += 1) {
    const qos = Math.floor(next() * 3) as 0 | 1 | 2;
    const topic = next() < 0.2 ? rdTopic("somebody-else") : rdTopic(meterId);
    const payload = next() < 0.2 ? "garbage" : reading(id);
    client.send(publishPacket(topic, payload, id, { qos }));
    if (qos === 2 && next() < 0.5) client.send(publishPacket(topic, payload, id, { qos, dup: true }));
    if (next() < 0.1) await new Promise((done) => setImmediate(done));
  }
  if (next() < 0.5) await client.waitFor("puback", 1).catch(() => {});
  client.close();
}

test("after a storm with lost connections and a failing log, and in the midst of it, the counters add up", async () => {
  const worker = await startWorker(backend, { logRetryMinMs: 20 });
  const meterIds = Array.from({ length: 12 }, (_, index) => `storm-${index}`);
  await addMeters(backend.pool, ...meterIds);
  const looks = setInterval(() => void assertCountersAddUp(worker), 1);
  const next = random(20261121);
  for (let round = 0; round < 6; round += 1) {
    const storm = Promise.all(meterIds.map((meterId) => misbehave(worker.port, meterId, next)));
    await backend.pool.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'gridroot append' and datname = current_database()",
    );
    await storm;
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
  await worker.stop();
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

import assert from "node:assert/strict";
import { after, test } from "node:test";
import pino from "pino";
import { advance, takeOver } from "../ledger/consumer-offsets.ts";
import { SettableClock } from "../service/clock.ts";
import { openPool } from "../service/database.ts";
import { migrate } from "../service/migrate.ts";
import { createTestDatabase } from "../tests/support/postgres.ts";
import { until } from "../tests/support/until.ts";
import { PostgresEventLog } from "./postgres/postgres-event-log.ts";
import { Retention } from "./retention.ts";

const connectionString = await createTestDatabase();
const log = pino({ level: "silent" });
const ledger = openPool(
  { connectionString, applicationName: "test", maxConnections: 2, schema: "ledger" },
  (error) => assert.fail(error),
);
await migrate(ledger, "ledger", new URL("../ledger/migrations/", import.meta.url));
const eventLog = await PostgresEventLog.open({ connectionString }, { log });
after(async () => {
  await eventLog.close();
  await ledger.end();
});

/** A topic of one partition with ten batches of one record. */
async function tenRecords(topic: string): Promise<void> {
  await eventLog.ensureTopics([{ topic, partitions: 1 }]);
  const appender = await eventLog.openAppender();
  for (let n = 0; n < 10; n += 1) {
    await appender.append([{ topic, partition: 0, key: `${n}`, headers: {}, value: Buffer.from("x") }]);
  }
  await appender.close();
}

function retention(
  topic: string,
  consumers: readonly string[],
  clock: SettableClock,
  keepMs: number,
): Retention {
  return new Retention(
    { topics: [{ topic, partitions: 1, consumers }], keepMs, everyMs: 5 },
    { eventLog, ledger, clock, log },
  );
}

test("retention never passes a stored offset", async () => {
  const topic = "stored";
  await tenRecords(topic);
  const clock = new SettableClock(Date.now() + 3_600_000);
  const service = retention(topic, ["recorder", "aggregator"], clock, 0);
  const first = async () => (await eventLog.bounds({ topic, partition: 0 })).first;

  const recorder = await takeOver(ledger, "recorder", { topic, partition: 0 });
  await advance(ledger, recorder, { nextOffset: 8n, mark: "m" });
  await service.sweep();
  assert.equal(await first(), 0n, "the aggregator has stored nothing yet");

  const aggregator = await takeOver(ledger, "aggregator", { topic, partition: 0 });
  const moved = await advance(ledger, aggregator, { nextOffset: 5n, mark: "m" });
  await service.sweep();
  assert.equal(await first(), 5n);

  await advance(ledger, moved!, { nextOffset: 10n, mark: "m" });
  await service.sweep();
  assert.equal(await first(), 8n, "the recorder is the last now");
});

test("consumed records stay for as long as they are to be kept", async () => {
  const topic = "kept";
  await tenRecords(topic);
  const [last] = await eventLog.read({ topic, partition: 0 }, 9n, 1);
  const clock = new SettableClock(last!.appendTimeMs);
  const service = retention(topic, [], clock, 60_000);
  await service.sweep();
  assert.deepEqual(await eventLog.bounds({ topic, partition: 0 }), { first: 0n, next: 10n });
  clock.set(last!.appendTimeMs + 60_000);
  await service.sweep();
  assert.deepEqual(await eventLog.bounds({ topic, partition: 0 }), { first: 10n, next: 10n });
});

test("sweeps repeat until stopped", async () => {
  const topic = "swept";
  await tenRecords(topic);
  const clock = new SettableClock(0);
  const service = retention(topic, [], clock, 0);
  await service.start();
  clock.set(Date.now() + 3_600_000);
  await until(
    "the log is trimmed",
    async () => (await eventLog.bounds({ topic, partition: 0 })).first === 10n,
  );
  await service.stop();
});

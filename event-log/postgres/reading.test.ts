import assert from "node:assert/strict";
import { after, test } from "node:test";
import pg from "pg";
import pino from "pino";
import { createTestDatabase } from "../../tests/support/postgres.ts";
import { RecordingConsumer } from "../../tests/support/recording-consumer.ts";
import { until } from "../../tests/support/until.ts";
import { PostgresEventLog, type PostgresEventLogOptions } from "./postgres-event-log.ts";

const connectionString = await createTestDatabase();
const admin = new pg.Pool({ connectionString, max: 1, options: "-c search_path=log" });
const opened: PostgresEventLog[] = [];
after(async () => {
  await Promise.all(opened.map((log) => log.close()));
  await admin.end();
});

async function open(options: Partial<PostgresEventLogOptions> = {}): Promise<PostgresEventLog> {
  const log = await PostgresEventLog.open(
    { connectionString, ...options },
    { log: pino({ level: "silent" }) },
  );
  opened.push(log);
  return log;
}

function records(topic: string, partitions: number, count: number, valueBytes = 10) {
  return Array.from({ length: count }, (_, n) => ({
    topic,
    partition: n % partitions,
    key: `${n}`,
    headers: {},
    value: new Uint8Array(valueBytes),
  }));
}

test("consumers are woken by the notification, long before they would look by themselves", async () => {
  const [reading, writing] = [await open({ pollMs: 3_600_000 }), await open()];
  await reading.ensureTopics([{ topic: "woken", partitions: 2 }]);
  const consumer = await new RecordingConsumer().join(reading, "woken", ["woken"]);
  const appender = await writing.openAppender();
  for (let n = 1; n <= 20; n += 1) {
    await appender.append(records("woken", 1, 1));
    await until("the record has come", () => consumer.group.count() === n);
  }
  assert.deepEqual(consumer.group.breaches, []);
});

test("consumers find by polling what nobody announced", async () => {
  const log = await open({ pollMs: 50 });
  await log.ensureTopics([{ topic: "polled", partitions: 1 }]);
  const consumer = await new RecordingConsumer().join(log, "polled", ["polled"]);
  const appender = await log.openAppender();
  await appender.append(records("polled", 1, 1));
  await until("the first has come", () => consumer.group.count() === 1);
  // A copy of the batch behind the log's back stands for an append whose process died before it told anybody.
  await admin.query(`
    with moved as (update head set next_offset = 2 from topic
                    where topic.topic_id = head.topic_id and name = 'polled' returning head.topic_id)
    insert into batch select topic_id, partition, 1, 1, byte_count, append_time_ms, records
                        from batch join moved using (topic_id)`);
  await until("the second has come", () => consumer.group.count() === 2);
});

test("batches are bounded by records and by bytes", async () => {
  const batchBytes = 300_000;
  const log = await open({ batchRecords: 1_000, batchBytes });
  await log.ensureTopics([
    { topic: "many", partitions: 1 },
    { topic: "large", partitions: 1 },
  ]);
  const appender = await log.openAppender();
  for (let n = 0; n < 10; n += 1) {
    await appender.append(records("many", 1, 450));
    await appender.append(records("large", 1, 20, 20_000));
  }
  const consumer = new RecordingConsumer();
  const bytes: number[] = [];
  consumer.onBatch = ({ topic, records }) => {
    if (topic === "large") bytes.push(records.reduce((sum, { value }) => sum + value.length, 0));
    return Promise.resolve();
  };
  await consumer.join(log, "bounded", ["many", "large"]);
  await until("all is read", () => consumer.group.count() === 4_700);
  assert.ok(consumer.batchSizes.every((size) => size <= 1_000));
  assert.ok(
    bytes.every((size) => size <= batchBytes),
    String(bytes),
  );
  assert.ok(bytes.length > 1);
});

test("connections in use do not grow with partitions", async () => {
  const log = await open({ maxConnections: 3 });
  await log.ensureTopics([{ topic: "wide", partitions: 100 }]);
  const before = await connections();
  const consumers = await Promise.all(
    ["one", "two"].map((group) => new RecordingConsumer().join(log, `wide-${group}`, ["wide"])),
  );
  const appender = await log.openAppender();
  let most = 0;
  for (let n = 1; n <= 10; n += 1) {
    await appender.append(records("wide", 100, 200));
    await until("all is read", () => consumers.every(({ group }) => group.count() === 200 * n));
    most = Math.max(most, await connections());
  }
  // The pool has one open already; besides it one listener and one appender.
  assert.ok(most - before <= 4, `${most - before} more connections`);
});

test("a damaged batch holds its partition back and is never skipped", async () => {
  const log = await open({ pollMs: 50 });
  await log.ensureTopics([{ topic: "damaged", partitions: 2 }]);
  const appender = await log.openAppender();
  for (let n = 0; n < 3; n += 1) await appender.append(records("damaged", 2, 2));
  const damage = (mask: number) =>
    admin.query(
      `update batch set records = set_byte(records, 8, get_byte(records, 8) # $1)
         from topic where topic.topic_id = batch.topic_id and name = 'damaged' and partition = 0 and base_offset = 1`,
      [mask],
    );
  await damage(1);
  const consumer = await new RecordingConsumer().join(log, "damaged", ["damaged"]);
  await until("the partition has failed again and again", () => {
    const calls = consumer.calls.filter((call) => call === "assigned damaged/0");
    return calls.length >= 3;
  });
  assert.equal(consumer.group.records.get("damaged/1")?.length, 3);
  assert.ok((consumer.group.records.get("damaged/0")?.length ?? 0) <= 1);
  await damage(1);
  await until("it goes on once repaired", () => consumer.group.records.get("damaged/0")?.length === 3);
  assert.deepEqual(consumer.group.breaches, []);
});

test("a log restored from a backup and written since is not taken for the one consumed", async () => {
  const log = await open();
  await log.ensureTopics([{ topic: "restored", partitions: 1 }]);
  const appender = await log.openAppender();
  await appender.append(records("restored", 1, 10));
  const first = await new RecordingConsumer().join(log, "restored", ["restored"]);
  await until("all is read", () => first.group.count() === 10);
  await first.member.stop();
  await admin.query(`
    update batch set append_time_ms = append_time_ms + 5
      from topic where topic.topic_id = batch.topic_id and name = 'restored'`);
  const second = await new RecordingConsumer(first.group).join(log, "restored", ["restored"]);
  await until("the partition has halted", () => second.halts.get("restored/0")?.code === "log-truncated");
});

async function connections(): Promise<number> {
  const result = await admin.query<{ n: string }>(
    "select count(*) as n from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()",
  );
  return Number(result.rows[0]!.n);
}

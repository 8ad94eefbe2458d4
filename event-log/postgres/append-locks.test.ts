import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import pg from "pg";
import pino from "pino";
import { createTestDatabase } from "../../tests/support/postgres.ts";
import { until } from "../../tests/support/until.ts";
import type { Appender } from "../event-log.ts";
import { PostgresEventLog } from "./postgres-event-log.ts";

const TOPIC = "locked";
const PARTITIONS = 3;
let log: PostgresEventLog;
let holder: pg.Client;
let watcher: pg.Client;

before(async () => {
  const connectionString = await createTestDatabase();
  log = await PostgresEventLog.open({ connectionString }, { log: pino({ level: "silent" }) });
  await log.ensureTopics([{ topic: TOPIC, partitions: PARTITIONS }]);
  [holder, watcher] = [0, 1].map(
    () => new pg.Client({ connectionString, options: "-c search_path=log" }),
  ) as [pg.Client, pg.Client];
  await Promise.all([holder.connect(), watcher.connect()]);
});

after(async () => {
  await Promise.all([holder.end(), watcher.end(), log.close()]);
});

/** One record to each of these partitions, in this order. */
function append(appender: Appender, key: string, ...partitions: readonly number[]): Promise<void> {
  return appender.append(
    partitions.map((partition) => ({ topic: TOPIC, partition, key, headers: {}, value: Buffer.from(key) })),
  );
}

async function untilAppendsWait(count: number): Promise<void> {
  await until(`${count} appends wait`, async () => {
    const waiting = await watcher.query(
      `select from pg_stat_activity where application_name = 'gridroot append' and wait_event_type = 'Lock'
         and datname = current_database()`,
    );
    return waiting.rowCount === count;
  });
}

async function keysIn(partition: number): Promise<readonly string[]> {
  return (await log.read({ topic: TOPIC, partition }, 0n, 100)).map(({ key }) => key);
}

test("an append waits for the one that is in flight, and takes the offsets after it", async () => {
  const appender = await log.openAppender();
  await append(appender, "before", 0);
  // Another append's offset is taken, and may be seen only later.
  await holder.query("begin");
  await holder.query("select append_batches(array[$1], array[0], array[1], array[1], '\\x00')", [TOPIC]);
  const appended = append(appender, "after", 0);
  await untilAppendsWait(1);
  assert.deepEqual(await keysIn(0), ["before"]);
  await holder.query("commit");
  await appended;
  const offsets = await watcher.query<{ base_offset: bigint }>(
    "select base_offset from batch where partition = 0 order by base_offset",
  );
  assert.deepEqual(
    offsets.rows.map((row) => Number(row.base_offset)),
    [0, 1, 2],
  );
  await appender.close();
});

test("appends that name partitions in different orders do not wait for one another in a circle", async () => {
  const [first, second] = await Promise.all([log.openAppender(), log.openAppender()]);
  await holder.query("begin");
  await holder.query("select from head where partition = 2 for update");
  const both = [append(first, "first", 0, 2, 1)];
  await untilAppendsWait(1);
  both.push(append(second, "second", 1, 0));
  await untilAppendsWait(2);
  await holder.query("commit");
  await Promise.all(both);
  assert.deepEqual(await keysIn(1), ["first", "second"]);
  await Promise.all([first.close(), second.close()]);
});

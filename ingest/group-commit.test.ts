import assert from "node:assert/strict";
import { after, test } from "node:test";
import pino from "pino";
import { Registry } from "prom-client";
import { PostgresEventLog } from "../event-log/postgres/postgres-event-log.ts";
import { openPool } from "../service/database.ts";
import { noFaults } from "../service/faults.ts";
import { createTestDatabase } from "../tests/support/postgres.ts";
import { until } from "../tests/support/until.ts";
import { GroupCommit } from "./group-commit.ts";

const TOPIC = { topic: "dead-letters", partition: 0 };
const log = pino({ level: "silent" });
const url = await createTestDatabase();
const eventLog = await PostgresEventLog.open({ connectionString: url }, { log });
await eventLog.ensureTopics([{ topic: TOPIC.topic, partitions: 1 }]);
const pool = openPool(
  { connectionString: url, applicationName: "test", maxConnections: 4, schema: "log" },
  () => {},
);
after(async () => {
  await pool.end();
  await eventLog.close();
});

async function start(appendTimeoutMs: number, metrics = new Registry()): Promise<GroupCommit> {
  const commit = new GroupCommit(
    {
      appendMaxDelayMs: 1,
      appendMaxRecords: 100,
      appendMaxBytes: 1000,
      appendTimeoutMs,
      logRetryMinMs: 10,
      logRetryMaxMs: 50,
      stopTimeoutMs: 5000,
    },
    { eventLog, log, metrics, faults: noFaults },
  );
  await commit.start();
  return commit;
}

/** Submits records by name and notes what becomes of each, in that order. */
function submitter(commit: GroupCommit) {
  const settled: string[] = [];
  const submit = (...names: readonly string[]): void => {
    for (const name of names) {
      commit.submit({
        record: { ...TOPIC, key: name, headers: {}, value: new Uint8Array(1) },
        bytes: 1,
        settle: (fault) => settled.push(fault === undefined ? name : `${name} ${fault.code}`),
      });
    }
  };
  return { settled, submit };
}

/** Runs `work` while no append can get on, then lets them. */
async function whileAppendsWait(work: () => Promise<void>): Promise<void> {
  const connection = await pool.connect();
  await connection.query("begin");
  await connection.query("lock table head in access exclusive mode");
  try {
    await work();
  } finally {
    await connection.query("rollback");
    connection.release();
  }
}

async function appendIsWaiting(): Promise<boolean> {
  const { rowCount } = await pool.query(
    "select 1 from pg_stat_activity where application_name = 'gridroot append' and wait_event_type = 'Lock' and datname = current_database()",
  );
  return rowCount === 1;
}

async function logged(prefix: string): Promise<string[]> {
  const records = await eventLog.read(TOPIC, 0n, 1000);
  return records.map(({ key }) => key).filter((key) => key.startsWith(prefix));
}

test("nobody is settled before the append is durable, and then all in order", async () => {
  const commit = await start(5000);
  const { settled, submit } = submitter(commit);
  await whileAppendsWait(async () => {
    submit("a1", "a2");
    await until("the append waits", appendIsWaiting);
    submit("a3");
    assert.deepEqual(settled, []);
  });
  await until("all are settled", () => settled.length === 3);
  assert.deepEqual(settled, ["a1", "a2", "a3"]);
  assert.deepEqual(await logged("a"), ["a1", "a2", "a3"]);
  await commit.stop();
});

test("when an append fails, what was submitted after it fails too: nothing later overtakes it", async () => {
  const commit = await start(5000);
  const { settled, submit } = submitter(commit);
  await whileAppendsWait(async () => {
    submit("b1");
    await until("the append waits", appendIsWaiting);
    submit("b2");
    await pool.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'gridroot append' and datname = current_database()",
    );
    await until("both have failed", () => settled.length === 2);
    submit("b3");
  });
  assert.deepEqual(settled, ["b1 log-unavailable", "b2 log-unavailable", "b3 log-unavailable"]);
  await until("the log is taken up again", () => commit.available);
  submit("b4");
  await until("it is settled", () => settled.includes("b4"));
  assert.deepEqual(await logged("b"), ["b4"]);
  await commit.stop();
});

test("an append that does not answer in time has failed, whatever becomes of it", async () => {
  const commit = await start(50);
  const { settled, submit } = submitter(commit);
  await whileAppendsWait(async () => {
    submit("c1", "c2");
    await until("both have failed", () => settled.length === 2, 2000);
  });
  assert.deepEqual(settled, ["c1 log-unavailable", "c2 log-unavailable"]);
  await commit.stop();
});

test("a group is bounded by records and by bytes, and a stop appends what was submitted", async () => {
  const metrics = new Registry();
  const commit = await start(5000, metrics);
  const { settled, submit } = submitter(commit);
  const names = Array.from({ length: 250 }, (_, index) => `d${index}`);
  submit(...names);
  await commit.stop();
  assert.deepEqual(settled, names);
  assert.deepEqual(await logged("d"), names);
  assert.match(await metrics.metrics(), /ingest_append_records_bucket\{le="100"\} 3\n/);
});

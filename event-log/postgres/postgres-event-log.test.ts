import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import pino from "pino";
import { createTestDatabase } from "../../tests/support/postgres.ts";
import { type ContractSubject, eventLogContract } from "../contract-suite.ts";
import type { Appender } from "../event-log.ts";
import { packAppend } from "./postgres-appender.ts";
import { PostgresEventLog } from "./postgres-event-log.ts";

const LEASE_MS = 1_500;
const log = pino({ level: "silent" });

eventLogContract("PostgreSQL", async (): Promise<ContractSubject> => {
  const connectionString = await createTestDatabase();
  const options = { connectionString, leaseMs: LEASE_MS };
  const main = await PostgresEventLog.open(options, { log });
  const admin = new pg.Pool({ connectionString, max: 8, options: "-c search_path=log" });
  const children: ChildProcess[] = [];
  return {
    log: main,
    openAnother: () => PostgresEventLog.open(options, { log }),
    openSlowAppender: (maxDelayMs) => Promise.resolve(slowAppender(admin, maxDelayMs)),
    async joinElsewhere(group, topics) {
      const program = fileURLToPath(new URL("../../tests/support/event-log-member.ts", import.meta.url));
      const child = fork(program, [connectionString, String(LEASE_MS), group, ...topics]);
      children.push(child);
      await once(child, "message");
      return {
        async kill() {
          child.kill("SIGKILL");
          await once(child, "exit");
        },
      };
    },
    async recreateTopic(topic) {
      await admin.query("delete from topic where name = $1", [topic.topic]);
      await main.ensureTopics([topic]);
    },
    async truncateTopic(topic, nextOffset) {
      await admin.query(
        `with shortened as (
           update head set next_offset = $2 from topic
            where topic.topic_id = head.topic_id and topic.name = $1 returning head.topic_id)
         delete from batch using shortened where batch.topic_id = shortened.topic_id and base_offset >= $2`,
        [topic, nextOffset],
      );
    },
    takeOverWithinMs: 4 * LEASE_MS,
    async close() {
      await main.close();
      await admin.end();
      for (const child of children) child.kill("SIGKILL");
    },
  };
});

/** Runs the appender's own statement in a transaction that stays open for a while before and after it. */
function slowAppender(pool: pg.Pool, maxDelayMs: number): Appender {
  return {
    async append(records) {
      const limits = { storedBatchRecords: 2, storedBatchBytes: 262_144 };
      const { topics, partitions, recordCounts, byteCounts, packed } = packAppend(records, limits);
      const connection = await pool.connect();
      try {
        await connection.query("begin");
        await connection.query("select pg_current_xact_id()");
        await delay(Math.random() * maxDelayMs);
        await connection.query("select append_batches($1, $2, $3, $4, $5)", [
          topics,
          partitions,
          recordCounts,
          byteCounts,
          packed,
        ]);
        await delay(Math.random() * maxDelayMs);
        await connection.query("commit");
      } finally {
        connection.release();
      }
    },
    close: () => Promise.resolve(),
  };
}

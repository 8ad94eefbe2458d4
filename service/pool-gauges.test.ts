import assert from "node:assert/strict";
import { after, test } from "node:test";
import { Registry } from "prom-client";
import { createTestDatabase } from "../tests/support/postgres.ts";
import { openPool } from "./database.ts";
import { showPool } from "./pool-gauges.ts";

const connectionString = await createTestDatabase();
const pool = openPool({ connectionString, applicationName: "gauges", maxConnections: 2 }, () => {});
after(() => pool.end());

test("a pool shows what is at work, what is idle and what waits for a connection", async () => {
  const metrics = new Registry();
  showPool("ledger", pool, metrics);
  const [first, second] = [await pool.connect(), await pool.connect()];
  second.release();
  const lines = async () =>
    (await metrics.metrics()).split("\n").filter((line) => line.startsWith("postgres_"));
  assert.deepEqual(await lines(), [
    'postgres_pool_connections{pool="ledger",state="active"} 1',
    'postgres_pool_connections{pool="ledger",state="idle"} 1',
    'postgres_pool_waiting{pool="ledger"} 0',
  ]);
  const third = await pool.connect();
  const waiting = pool.query("select 1");
  assert.equal((await lines()).at(-1), 'postgres_pool_waiting{pool="ledger"} 1');
  third.release();
  await waiting;
  first.release();
});

// The schemas of log and series on the stack's server, which is older than the embedded one: their own tests, run again
// as they are. tests/pgbouncer.distributed.test.ts has ledger and jobs on that server.
import assert from "node:assert/strict";
import { test } from "node:test";
import pg from "pg";
import { createTestDatabase } from "./support/postgres.ts";
import "../event-log/postgres/postgres-event-log.test.ts";
import "../time-series/postgres/postgres-time-series.test.ts";

test("the server of these tests is Debian's", async () => {
  const client = new pg.Client({ connectionString: await createTestDatabase() });
  await client.connect();
  const { rows } = await client.query<{ version: string }>("select version()");
  await client.end();
  assert.match(rows[0]?.version ?? "", /Debian/);
});

import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import pg from "pg";
import { startPgBouncer } from "../deploy/stack/pgbouncer.ts";
import { startPostgres } from "../deploy/stack/postgres.ts";
import { findMeter } from "../ledger/meters.ts";
import { claimSessions, findSessions, SESSION_CHANNEL } from "../ledger/sessions.ts";
import { limitStatements, listen, openPool, type Pool } from "../service/database.ts";
import { migrate } from "../service/migrate.ts";
import { timeSeriesContract } from "../time-series/contract-suite.ts";
import { PostgresTimeSeries } from "../time-series/postgres/postgres-time-series.ts";
import { Aggregation, INTERVAL_S, readingAt, REGION, silent } from "./support/aggregation.ts";
import { attest, RegionChain, testRelayer } from "./support/attested-ledger.ts";
import { seedRegion } from "./support/seeded-ledger.ts";
import { settlementCounts } from "./support/settlement-counts.ts";
import { startTestApi, testAuthority, TEST_STORE_SCHEMA } from "./support/test-authority.ts";
import {
  startTestChain,
  TEST_AUTHORITIES,
  TEST_START_INTERVAL,
  type TestChain,
} from "./support/test-chain.ts";
import { until } from "./support/until.ts";

/** So few that every client's statements follow another client's on the same connection. */
const SERVER_CONNECTIONS = 2;
const LEDGER_MIGRATIONS = new URL("../ledger/migrations/", import.meta.url);
/** Parameters that the pooler itself sets anew for each client. */
const TRACKED = [
  "application_name",
  "client_encoding",
  "DateStyle",
  "TimeZone",
  "standard_conforming_strings",
];
const METERS = 4;
/** A region whose batches come from the seeded ledger instead of an aggregator. */
const SETTLED_REGION = 2;

const folder = await mkdtemp(join(tmpdir(), "gridroot-pgbouncer-"));
const server = await startPostgres({ dataDir: join(folder, "postgres") });
const bouncer = await startPgBouncer({ dataDir: join(folder, "pgbouncer"), target: server.url });
const pools: Pool[] = [];
let it: Aggregation;
let chain: TestChain;

before(async () => {
  await console_(`set default_pool_size = ${SERVER_CONNECTIONS}`);
  // A server that comes back is tried again after a second, not after 15.
  await console_("set server_login_retry = 1");
  chain = await startTestChain([1, SETTLED_REGION]);
  it = await Aggregation.open({ url: bouncer.url, directUrl: server.url });
  await it.start();
});

after(async () => {
  // Whatever a failed test has left, the servers end.
  await Promise.allSettled([it?.close(), chain?.stop()]);
  await Promise.allSettled([bouncer.stop(), server.stop()]);
  await Promise.allSettled(pools.map((pool) => pool.end()));
  await rm(folder, { recursive: true, force: true });
});

/** A statement of the pooler's own console. */
async function console_(statement: string): Promise<readonly Record<string, unknown>[]> {
  const url = new URL(bouncer.url);
  url.pathname = "/pgbouncer";
  const client = new pg.Client({ connectionString: url.href });
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(statement)).rows;
  } finally {
    await client.end();
  }
}

/** A pool as the roles open theirs, through the pooler. */
function pooled(applicationName: string): Pool {
  const pool = openPool({ connectionString: bouncer.url, applicationName, maxConnections: 4 }, () => {});
  pools.push(pool);
  return pool;
}

function report(interval: number, exportWh: number) {
  return Array.from({ length: METERS }, (_, index) =>
    readingAt(`m${index}`, interval * INTERVAL_S, exportWh),
  );
}

/** Each server connection of the pooler, held by a transaction of its own, and the state that its session has. */
async function sessions(pool: Pool): Promise<readonly Record<string, unknown>[]> {
  const connections = await Promise.all(Array.from({ length: SERVER_CONNECTIONS }, () => pool.connect()));
  try {
    for (const connection of connections) await connection.query("begin");
    const states = [];
    for (const connection of connections) {
      const { rows } = await connection.query<Record<string, unknown>>(
        `select pg_backend_pid() as pid,
                (select string_agg(name, ',') from pg_settings where source = 'session' and name <> all ($1)) as set,
                (select count(*)::integer from pg_prepared_statements) as prepared,
                (select count(*)::integer from pg_cursors where name <> '') as cursors,
                (select count(*)::integer from pg_listening_channels()) as channels,
                (select count(*)::integer from pg_class where relpersistence = 't') as temporary,
                (select count(*)::integer from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()) as locks`,
        [TRACKED],
      );
      states.push(rows[0] ?? {});
    }
    return states;
  } finally {
    for (const connection of connections) {
      await connection.query("rollback");
      connection.release();
    }
  }
}

function succeeds(work: Promise<unknown>): Promise<boolean> {
  return work.then(
    () => true,
    () => false,
  );
}

test("a search path set by a client's start is refused, so that none goes unnoticed", async () => {
  const client = new pg.Client({ connectionString: bouncer.url, options: "-c search_path=ledger" });
  await assert.rejects(client.connect(), /unsupported startup parameter/);
});

test("several clients migrate at the same time, and each schema is made once", async () => {
  const clients = Array.from({ length: 5 }, (_, index) => pooled(`migration ${index}`));
  await Promise.all(clients.map((pool) => migrate(pool, "ledger_again", LEDGER_MIGRATIONS)));
  const { rows } = await clients[0]!.query("select name from ledger_again.migration");
  assert.ok(rows.length >= 4);
});

test("meters are registered, found, and held by one session at a time", async (t) => {
  await it.commission(METERS);
  const db = limitStatements(pooled("ingest"), 5_000);
  assert.equal((await findMeter(db, "m1"))?.region, REGION.name);
  const heard: (string | undefined)[] = [];
  const listener = await listen(server.url, SESSION_CHANNEL, (payload) => heard.push(payload));
  t.after(() => listener.stop());
  const [first] = await claimSessions(db, "worker-1", ["m1"]);
  const [second] = await claimSessions(db, "worker-2", ["m1"]);
  assert.equal(second!.generation, first!.generation + 1n);
  assert.deepEqual(await findSessions(db, ["m1"]), [second]);
  await until("the take-over is announced", () => heard.includes(`m1 ${second!.generation} worker-2`));
});

test("readings are flushed and sealed, by two aggregators and every client on two connections", async () => {
  await it.start();
  for (let interval = 1; interval <= 6; interval += 1) {
    await it.publish(report(interval, interval * 100));
    await it.untilSealed(interval);
  }
  assert.deepEqual(
    (await it.batches()).map(({ content }) => content.intervalCreditWh),
    Array.from({ length: 6 }, () => BigInt(METERS * 100)),
  );
});

test("batches are fetched, attested and settled", async () => {
  const ledger = { pool: pooled("gridroot"), url: server.url };
  await seedRegion(ledger.pool, SETTLED_REGION, `region-${SETTLED_REGION}`);
  const region = new RegionChain(ledger.pool, SETTLED_REGION);
  const api = await startTestApi(chain, { pool: pooled("api"), url: bouncer.url });
  const authority = testAuthority(chain, api.url, pooled(TEST_STORE_SCHEMA));
  const relayer = testRelayer(chain, ledger);
  try {
    await authority.start();
    await relayer.start();
    for (let count = 0; count < 5; count += 1)
      await attest(ledger.pool, chain.domain, await region.seal(), [TEST_AUTHORITIES[1]!]);
    await until("all five are final", async () => (await settlementCounts(ledger.pool)).final === 5, 20_000);
    const end = TEST_START_INTERVAL + 5 * 900;
    const response = await fetch(`${api.url}/api/v1/batches/region-${SETTLED_REGION}/${end}`);
    const batch = (await response.json()) as { accepted: boolean; attestations: readonly unknown[] };
    assert.equal(batch.accepted, true);
    assert.equal(batch.attestations.length, 2);
    assert.equal((await fetch(`${api.url}/api/v1/regions`)).status, 200);
  } finally {
    await relayer.stop();
    await authority.stop();
    await api.stop();
  }
});

describe("time series through the pooler", () => {
  timeSeriesContract("PostgreSQL behind PgBouncer", () =>
    PostgresTimeSeries.open({ connectionString: bouncer.url, maxConnections: 3 }, { log: silent }),
  );
});

test("nobody has left anything in the sessions that all share", async () => {
  const states = await sessions(pooled("inspector"));
  assert.equal(new Set(states.map((state) => state["pid"])).size, SERVER_CONNECTIONS);
  const servers = await console_("show servers");
  assert.equal(servers.filter(({ database }) => database === "gridroot").length, SERVER_CONNECTIONS);
  for (const { pid: _pid, ...state } of states)
    assert.deepEqual(state, { set: null, prepared: 0, cursors: 0, channels: 0, temporary: 0, locks: 0 });
});

test("the server killed behind the pooler costs a wait, and everything goes on", async (t) => {
  const sealed = (await it.batches()).length;
  await it.publish(report(sealed + 1, 10_000));
  const series = await PostgresTimeSeries.open(
    { connectionString: bouncer.url, statementTimeoutMs: 2_000 },
    { log: silent },
  );
  t.after(() => series.close());
  const read = () => series.readings("m1", { from: 0, to: 1 }, 1);
  await server.kill();
  await assert.rejects(read(), { code: "series-unavailable", retryable: true });
  await server.start();
  await until("the series answers again", () => succeeds(read()), 20_000);
  await it.untilSealed(sealed + 1);
  const publish = () => succeeds(it.publish(report(sealed + 2, 20_000)));
  await until("the log takes readings again", publish, 20_000);
  await it.untilSealed(sealed + 2);
  assert.deepEqual(
    (await it.batches()).map(({ content }) => content.cumulativeCreditWh).at(-1),
    BigInt(METERS * 20_000),
  );
});

test("the pooler killed costs a wait too", async () => {
  await bouncer.kill();
  await assert.rejects(findMeter(it.pool, "m1"));
  await bouncer.start();
  await until("the ledger answers again", () => succeeds(findMeter(it.pool, "m1")));
  const sealed = (await it.batches()).length;
  await it.publish(report(sealed + 1, 30_000));
  await it.untilSealed(sealed + 1);
});

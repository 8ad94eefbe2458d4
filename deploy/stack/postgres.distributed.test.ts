import assert from "node:assert/strict";
import { chmod, mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import pg from "pg";
import { until } from "../../tests/support/until.ts";
import { startPgBouncer } from "./pgbouncer.ts";
import { startPostgres } from "./postgres.ts";
import { serversOn } from "./processes.ts";
import { VERSIONS } from "./versions.ts";

// As private as temporary folders are: the server's own user has to get in all the same.
const folder = await mkdtemp(join(tmpdir(), "gridroot-test-debian-postgres-"));
await chmod(folder, 0o700);
let primary: Awaited<ReturnType<typeof startPostgres>>;

before(async () => {
  primary = await startPostgres({ dataDir: join(folder, "primary") });
  await query(primary.url, "create table kept (id int primary key)");
});
after(async () => {
  await primary.stop();
  assert.deepEqual(serversOn([`${folder}/`]), []);
  await rm(folder, { recursive: true, force: true });
});

async function query(
  url: string,
  statement: string,
  connectWithinMs = 5_000,
): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: connectWithinMs });
  client.on("error", () => {});
  try {
    await client.connect();
    return (await client.query<Record<string, unknown>>(statement)).rows;
  } finally {
    await client.end();
  }
}

test("PostgreSQL keeps what was committed over a kill of all its processes", async () => {
  await query(primary.url, "insert into kept values (1)");
  await primary.kill();
  assert.deepEqual(serversOn([`${folder}/primary/`]), []);
  await primary.start();
  assert.deepEqual(await query(primary.url, "select id from kept where id = 1"), [{ id: 1 }]);
  const [row] = await query(primary.url, "show server_version");
  assert.ok(String(row?.["server_version"]).startsWith(`${VERSIONS.postgres}.`));
});

test("a paused PostgreSQL leaves its clients waiting, those that were connected before as well", async () => {
  const client = new pg.Client({ connectionString: primary.url });
  await client.connect();
  try {
    primary.pause();
    let isAnswered = false;
    const answer = client.query("select 1").then(() => (isAnswered = true));
    await assert.rejects(query(primary.url, "select 1", 300), /timeout/);
    assert.equal(isAnswered, false);
    primary.resume();
    await answer;
  } finally {
    primary.resume();
    await client.end();
  }
});

test("PostgreSQL asks for its password, and lies wholly in its folder, closed to others", async () => {
  const wrong = new URL(primary.url);
  wrong.password = "wrong";
  await assert.rejects(query(wrong.href, "select 1"), /password authentication failed/);
  const { mode } = await stat(join(folder, "primary", "password"));
  assert.equal(mode & 0o777, 0o600);
  assert.ok((await readdir(join(folder, "primary", "data"))).includes("PG_VERSION"));
});

test("a replica follows its primary, refuses to write, and catches up on what it missed while it was down", async () => {
  const replica = await startPostgres({ dataDir: join(folder, "replica"), replicaOf: primary.url });
  const follows = (id: number): Promise<void> =>
    until(
      `row ${id} is at the replica`,
      async () => (await query(replica.url, `select 1 from kept where id = ${id}`)).length === 1,
    );
  try {
    await query(primary.url, "insert into kept values (10)");
    await follows(10);
    await assert.rejects(query(replica.url, "insert into kept values (11)"), /read-only transaction/);
    await replica.kill();
    await query(primary.url, "insert into kept values (12)");
    await replica.start();
    await follows(12);
  } finally {
    await replica.stop();
  }
});

test("PgBouncer lends a connection for the length of a transaction, under every database's own name", async () => {
  const pooler = await startPgBouncer({ dataDir: join(folder, "pooler"), target: primary.url });
  try {
    await query(primary.url, "create database other");
    const other = new URL(pooler.url);
    other.pathname = "/other";
    assert.deepEqual(await query(other.href, "select current_database() as name"), [{ name: "other" }]);
    await query(pooler.url, "begin; set local application_name = 'mine'; commit");
    // Two clients after one another get the same connection of the server: it is not theirs.
    const [first] = await query(pooler.url, "select pg_backend_pid() as pid");
    const [second] = await query(pooler.url, "select pg_backend_pid() as pid");
    assert.deepEqual(first, second);
    const console = new URL(pooler.url);
    console.pathname = "/pgbouncer";
    const [version] = await query(console.href, "show version");
    assert.ok(String(version?.["version"]).startsWith(`PgBouncer ${VERSIONS.pgbouncer}.`));
  } finally {
    await pooler.stop();
  }
});

test("PgBouncer comes up while its target is down, and serves when that is back", async () => {
  await primary.stop();
  const pooler = await startPgBouncer({ dataDir: join(folder, "early"), target: primary.url });
  try {
    await pooler.kill();
    await pooler.start();
    await primary.start();
    await until("the pooler serves", () =>
      query(pooler.url, "select 1").then(
        () => true,
        () => false,
      ),
    );
  } finally {
    await pooler.stop();
    await primary.start();
  }
});

import assert from "node:assert/strict";
import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";
import { once } from "node:events";
import { after, test } from "node:test";
import { createTestDatabase } from "../tests/support/postgres.ts";
import { until } from "../tests/support/until.ts";
import { inTransaction, listen, openPool } from "./database.ts";
import { migrate } from "./migrate.ts";

const url = await createTestDatabase();
const pool = openPool(
  { connectionString: url, applicationName: "test", maxConnections: 4, schema: "ledger" },
  (error) => assert.fail(error),
);
after(() => pool.end());

test("the ledger's migrations apply once, whoever calls them first", async () => {
  const folder = new URL("../ledger/migrations/", import.meta.url);
  await Promise.all([migrate(pool, "ledger", folder), migrate(pool, "ledger", folder)]);
  const tables = await pool.query("select count(*) as n from pg_tables where schemaname = 'ledger'");
  assert.ok(tables.rows[0].n > 5n);
});

test("a program older than its data refuses to run", async () => {
  const empty = pathToFileURL(`${await mkdtemp(join(tmpdir(), "gridroot-migrations-"))}/`);
  await writeFile(new URL("0001-other.sql", empty), "select 1");
  await assert.rejects(migrate(pool, "ledger", empty), { code: "migration-missing" });
});

test("a transaction that throws leaves nothing behind", async () => {
  await pool.query("create table public.kept (n bigint)");
  const failed = inTransaction(pool, async (connection) => {
    await connection.query("insert into public.kept values (1)");
    throw new Error("on purpose");
  });
  await assert.rejects(failed, /on purpose/);
  assert.equal((await pool.query("select * from public.kept")).rowCount, 0);
});

test("a connection cut between two statements of a transaction fails the transaction, not the program", async () => {
  const small = openPool(
    { connectionString: url, applicationName: "cut", maxConnections: 1, schema: "ledger" },
    (error) => assert.fail(error),
  );
  const cut = inTransaction(small, async (connection) => {
    const ended = new Promise((done) => connection.once("end", done));
    await pool.query("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'cut'");
    await ended;
    await connection.query("select 1");
  });
  await assert.rejects(cut);
  assert.equal((await small.query("select 1 as one")).rows[0].one, 1);
  await small.end();
});

test("a listener hears again after its connection was cut", async () => {
  const heard: (string | undefined)[] = [];
  let wake = () => {};
  const listener = await listen(url, "news", (payload) => {
    heard.push(payload);
    wake();
  });
  const next = () => new Promise<void>((done) => (wake = done));
  let waiting = next();
  await pool.query("select pg_notify('news', 'one')");
  await waiting;
  waiting = next();
  await pool.query(
    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'listen news'",
  );
  await waiting;
  waiting = next();
  await pool.query("select pg_notify('news', 'two')");
  await waiting;
  assert.deepEqual(heard, ["one", undefined, "two"]);
  await listener.stop();
});

test("a listener that is stopped while it reconnects leaves no connection behind and calls nobody", async (t) => {
  const { hostname, port } = new URL(url);
  const sockets: Socket[] = [];
  const held: (() => void)[] = [];
  let holds = false;
  const relay = createServer((socket) => {
    sockets.push(socket.on("error", () => {}));
    const forward = () => {
      const upstream = connect(Number(port), hostname).on("error", () => {});
      socket.on("close", () => upstream.destroy());
      socket.pipe(upstream).pipe(socket);
    };
    if (holds) held.push(forward);
    else forward();
  }).listen(0, "127.0.0.1");
  await once(relay, "listening");
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    relay.close();
  });
  const through = new URL(url);
  through.port = String((relay.address() as AddressInfo).port);
  let calls = 0;
  const listener = await listen(through.href, "relayed", () => (calls += 1));
  holds = true;
  sockets[0]?.destroy();
  await until("it connects again", () => held.length === 1);
  await listener.stop();
  held[0]?.();
  await until("it has closed the connection", () => sockets[1]?.closed === true, 5000);
  assert.equal(calls, 0);
});

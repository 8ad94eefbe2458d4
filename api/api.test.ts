import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Wallet } from "ethers";
import { pino } from "pino";
import { Registry } from "prom-client";
import { parseBundle } from "../domain/settlement/bundle-parsing.ts";
import { verifyBundle } from "../domain/settlement/bundle-verification.ts";
import type { Batch } from "../domain/settlement/batch.ts";
import { dataHash } from "../domain/settlement/evidence.ts";
import { createHasher } from "../domain/settlement/hasher.ts";
import { SETTLEMENT_TYPES, refusalMessage, typedDomain } from "../domain/settlement/message.ts";
import type { Hex, SettlementDomain } from "../domain/settlement/settlement.ts";
import { wh } from "../domain/metering/units.ts";
import { ATTESTATIONS_CHANNEL } from "../ledger/attestations.ts";
import { SettableClock } from "../service/clock.ts";
import { listen, openPool } from "../service/database.ts";
import { migrate } from "../service/migrate.ts";
import { PostgresTimeSeries } from "../time-series/postgres/postgres-time-series.ts";
import { createTestDatabase } from "../tests/support/postgres.ts";
import { accountOf, seedBatch, seedMeter, seedRegion } from "../tests/support/seeded-ledger.ts";
import { Api } from "./api.ts";
import type { DependencyState } from "./operational-routes.ts";

const T0 = 1_795_000_500;
const url = await createTestDatabase();
const pool = openPool(
  { connectionString: url, applicationName: "test", maxConnections: 6, schema: "ledger" },
  () => {},
);
const log = pino({ level: "silent" });
const clock = new SettableClock((T0 + 1800) * 1000);
await migrate(pool, "ledger", new URL("../ledger/migrations/", import.meta.url));
const timeSeries = await PostgresTimeSeries.open(
  { connectionString: url, maxConnections: 2 },
  { log, clock },
);
const metrics = new Registry();
const hasher = await createHasher();
const domain: SettlementDomain = { chainId: 31337, verifyingContract: `0x${"cd".repeat(20)}` };
const [egat, mea, stranger] = [Wallet.createRandom(), Wallet.createRandom(), Wallet.createRandom()];
const members = [egat, mea].map((wallet) => wallet.address.toLowerCase() as Hex);
let readiness: () => Promise<Record<string, DependencyState>> = () =>
  Promise.resolve({ ledger: { ok: true } });
let acceptedHash: string | undefined;
const dependencies = {
  ...{ pool, timeSeries, clock, log, metrics },
  readiness: () => readiness(),
  metricsText: () => metrics.metrics(),
  chain: {
    domain,
    authoritySet: () => Promise.resolve({ epoch: 3, members }),
    isAccepted: (content: { root: string }) => Promise.resolve(content.root === acceptedHash),
  },
};
const api = new Api({ port: 0 }, dependencies);
const batches: Batch[] = [];

before(async () => {
  await seedRegion(pool, 1, "bangkok");
  await seedRegion(pool, 2, "central");
  for (const n of [1, 2, 3]) await seedMeter(pool, 1, n, T0 - 86_400);
  await seedMeter(pool, 2, 4, T0 - 86_400);
  for (const [i, scale] of [10n, 25n, 40n].entries()) {
    batches.push(
      await seedBatch(pool, batches.at(-1)?.evidence, {
        ...{ region: 1, interval: T0 + (i - 1) * 900, meters: [1, 2, 3], scale },
      }),
    );
  }
  await seedBatch(pool, undefined, { region: 2, interval: T0, meters: [4], scale: 1n });
  await timeSeries.write(
    [0, 300, 600, 900].map((offset, i) => ({
      ...{ region: "bangkok", meterId: "meter-1", epoch: 0, seq: i, t: T0 - 900 + offset },
      ...{ importWh: wh(i), exportWh: wh(100 * i), powerW: -i, status: 0 },
    })),
  );
  await timeSeries.repair(100);
  await api.start();
});

after(async () => {
  await api.stop();
  await timeSeries.close();
  await pool.end();
});

interface Answer {
  readonly status: number;
  readonly type: string | null;
  // Answers are looked into freely here; their schemas are checked by the serialiser.
  readonly body: Body;
}
interface Body {
  code: string;
  field: string;
  next: string | number;
  items: Record<string, unknown>[];
  [name: string]: unknown;
}

async function get(path: string): Promise<Answer> {
  const response = await fetch(`${api.url}${path}`);
  return {
    ...{ status: response.status, type: response.headers.get("content-type") },
    body: (await response.json()) as Body,
  };
}

async function put(path: string, body: unknown): Promise<Answer> {
  const response = await fetch(`${api.url}${path}`, {
    ...{ method: "PUT", headers: { "content-type": "application/json" }, body: JSON.stringify(body) },
  });
  return {
    ...{ status: response.status, type: response.headers.get("content-type") },
    body: (await response.json()) as Body,
  };
}

async function sign(
  wallet: { signTypedData: Wallet["signTypedData"] },
  batch: Batch,
  epoch = 3,
): Promise<string> {
  const message = { ...batch.content, authoritySetEpoch: epoch };
  return wallet.signTypedData(typedDomain(domain), SETTLEMENT_TYPES, message);
}

function attestation(batch: Batch, authority: string): string {
  return `/api/v1/batches/bangkok/${batch.content.interval}/attestations/${authority}`;
}

test("health says that the process lives, ready names the dependency that is down", async () => {
  assert.deepEqual((await get("/health")).body, { status: "ok" });
  assert.deepEqual((await get("/ready")).body, { ready: true, dependencies: { ledger: { ok: true } } });
  readiness = () => Promise.resolve({ ledger: { ok: true }, chain: { ok: false, reason: "no answer" } });
  const down = await get("/ready");
  readiness = () => Promise.resolve({ ledger: { ok: true } });
  assert.equal(down.status, 503);
  assert.deepEqual(down.body["dependencies"], {
    ledger: { ok: true },
    chain: { ok: false, reason: "no answer" },
  });
});

test("a dependency that never answers makes the probe fail, not hang", async (t) => {
  const options = { port: 0, readyWithinMs: 20 };
  const silent = { ...dependencies, readiness: () => new Promise<never>(() => {}), metrics: new Registry() };
  const alone = new Api(options, silent);
  t.after(() => alone.stop());
  await alone.start();
  assert.equal((await fetch(`${alone.url}/ready`)).status, 503);
});

test(
  "stopping finishes the request in hand, and cuts one that outlasts the bound",
  { timeout: 10_000 },
  async (t) => {
    for (const answered of [true, false]) {
      let arrived = () => {};
      let finish = (_text: string) => {};
      const inHand = new Promise<void>((resolve) => (arrived = resolve));
      const metricsText = () => {
        arrived();
        return new Promise<string>((resolve) => (finish = resolve));
      };
      const others = { ...dependencies, metricsText, metrics: new Registry() };
      const alone = new Api({ port: 0, stopWithinMs: 50 }, others);
      t.after(() => alone.stop());
      await alone.start();
      const answer = fetch(`${alone.url}/metrics`).then((response) => response.text());
      await inHand;
      const stopped = alone.stop();
      if (answered) finish("late but whole");
      await (answered ? answer : assert.rejects(answer));
      await stopped;
    }
  },
);

test("metrics are the injected text, with requests by route pattern and never by meter", async () => {
  await get("/api/v1/meters/meter-1");
  const text = await (await fetch(`${api.url}/metrics`)).text();
  assert.match(
    text,
    /http_request_duration_seconds_count\{method="GET",route="\/api\/v1\/meters\/:id",status="200"\}/,
  );
  assert.ok(!text.includes("meter-1"));
});

test("meters come in pages by id, filtered, and never with their secret", async () => {
  const first = await get("/api/v1/meters?limit=2");
  assert.deepEqual(
    [first.body.items.map((meter) => meter["meterId"]), first.body.next],
    [["meter-1", "meter-2"], "meter-2"],
  );
  const second = await get(`/api/v1/meters?limit=2&after=${String(first.body.next)}`);
  assert.deepEqual([second.body.items.length, second.body.next], [2, undefined]);
  assert.equal((await get("/api/v1/meters?region=central")).body.items.length, 1);
  assert.equal(
    (await get(`/api/v1/meters?account=${accountOf(3).toUpperCase().replace("0X", "0x")}`)).body.items.length,
    1,
  );
  assert.ok(!JSON.stringify(first.body).includes("07".repeat(32)));
});

test("a meter's readings come raw or by buckets, energies as decimal strings, pages end between instants", async () => {
  const raw = await get(`/api/v1/meters/meter-1/readings?from=${T0 - 900}&to=${T0}`);
  assert.deepEqual(
    raw.body.items.map((point) => [point["t"], point["exportWh"]]),
    [
      [T0 - 600, "100"],
      [T0 - 300, "200"],
      [T0, "300"],
    ],
  );
  const page = await get(`/api/v1/meters/meter-1/readings?from=${T0 - 901}&to=${T0}&limit=3`);
  assert.deepEqual([page.body.items.length, page.body.next], [3, T0 - 300]);
  const iso = new Date(T0 * 1000).toISOString();
  const buckets = await get(`/api/v1/meters/meter-1/readings?resolution=15m&to=${iso}`);
  const last = buckets.body.items.at(-1)!;
  assert.deepEqual([last["end"], last["count"], last["lastExportWh"]], [T0, 3, "300"]);
});

test("regions tell how far they are sealed, their totals and their completeness", async () => {
  const { items } = (await get(`/api/v1/regions?intervals=2&to=${T0}`)).body;
  const bangkok = items[0]!;
  assert.deepEqual(
    [bangkok["region"], bangkok["sealedUntil"], bangkok["meters"], bangkok["cumulativeCreditWh"]],
    ["bangkok", T0 + 900, 3, "240"],
  );
  assert.deepEqual(bangkok["completeness"], [
    { end: T0 - 900, expectedMeters: 3, meters: 1, readings: 1 },
    { end: T0, expectedMeters: 3, meters: 1, readings: 3 },
  ]);
});

test("batches are listed newest first; a page never parts an interval", async () => {
  const all = await get("/api/v1/batches");
  assert.deepEqual(
    all.body.items.map((batch) => [batch["region"], batch["interval"]]),
    [
      ["bangkok", T0 + 900],
      ["bangkok", T0],
      ["central", T0],
      ["bangkok", T0 - 900],
    ],
  );
  const two = await get("/api/v1/batches?limit=2");
  assert.deepEqual([two.body.items.length, two.body.next], [1, T0 + 900]);
  const one = await get(`/api/v1/batches?limit=1&before=${T0 + 900}`);
  assert.deepEqual([one.body.items.length, one.body.next], [2, T0], "longer than asked rather than parted");
  assert.equal((await get("/api/v1/batches?region=central")).body.items.length, 1);
});

test("a batch shows its attestations, its way onto the chain and whether the contract holds it", async () => {
  const { content } = batches[1]!;
  const path = `/api/v1/batches/bangkok/${content.interval}`;
  const before = (await get(path)).body;
  assert.deepEqual([before["settlement"], before["accepted"]], [{ state: "sealed" }, false]);
  await settle(content.interval);
  acceptedHash = content.root;
  const settled = (await get(path)).body;
  assert.deepEqual(settled["settlement"], {
    ...{ state: "final", changedMs: 5, transactionHash: `0x${"aa".repeat(32)}`, blockNumber: 12 },
  });
  assert.deepEqual([settled["accepted"], settled["root"]], [true, content.root]);
  assert.equal((await get(`${path}?round=1`)).status, 404);
});

async function settle(interval: number): Promise<void> {
  const hash = `'\\x${"aa".repeat(32)}'`;
  await pool.query(`insert into settlement values (1, 0, ${interval}, 'final', null, 5)`);
  await pool.query(
    `with a as (
       insert into attempt (chain_id, sender, nonce, contract, state, succeeded, mined_hash, block_number, block_hash,
                            gas_used, changed_ms)
       values (31337, '\\x${"01".repeat(20)}', 0, '\\x${"cd".repeat(20)}', 'final', true, ${hash}, 12, ${hash}, 1, 5)
       returning attempt_id)
     insert into settlement_attempt (region_id, round, interval_end, attempt_id)
     select 1, 0, ${interval}, attempt_id from a`,
  );
}

test("the evidence is served as the bytes whose hash was signed", async () => {
  const { content, file } = batches[2]!;
  const response = await fetch(`${api.url}/api/v1/batches/bangkok/${content.interval}/evidence?round=0`);
  const body = new Uint8Array(await response.arrayBuffer());
  assert.equal(response.headers.get("content-type"), "application/octet-stream");
  assert.deepEqual(body, file);
  assert.equal(dataHash(hasher, body), content.dataHash);
});

test("an account's bundle is from the newest batch on chain, or from the one asked for, and passes every check", async () => {
  for (const [query, interval] of [
    ["", batches[1]!.content.interval],
    [`?interval=${batches[2]!.content.interval}`, batches[2]!.content.interval],
    [`?interval=${batches[0]!.content.interval}&region=bangkok`, batches[0]!.content.interval],
  ] as const) {
    const text = await (await fetch(`${api.url}/api/v1/accounts/${accountOf(2)}/proof${query}`)).text();
    const bundle = parseBundle(text);
    assert.equal(bundle.settlement.interval, interval);
    for (const check of verifyBundle(hasher, bundle))
      assert.ok(check.passed, `${check.name}: ${check.detail}`);
  }
  const mixedCase = await get(`/api/v1/accounts/0x${accountOf(2).slice(2).toUpperCase()}/proof`);
  assert.equal(mixedCase.status, 200);
});

test("an authority sees the oldest batches first until it has signed or refused them", async () => {
  const pending = async (limit = 100) => {
    const { body } = await get(`/api/v1/authorities/${egat.address}/pending?limit=${limit}`);
    return (body as unknown as Record<string, unknown>[]).filter((batch) => batch["region"] === "bangkok");
  };
  const list = await pending();
  assert.deepEqual(
    list.map((batch) => batch["interval"]),
    batches.map((batch) => batch.content.interval),
  );
  const [first, second] = batches as [Batch, Batch];
  assert.deepEqual(
    [list[0]!["regionId"], list[0]!["prevRoot"], list[0]!["intervalCreditWh"], list[0]!["contentHash"]],
    [1, first.content.prevRoot, "60", first.contentHash],
  );
  const path = attestation(first, egat.address);
  const body = { round: 0, authoritySetEpoch: 3, signature: await sign(egat, first) };
  assert.deepEqual((await put(path, body)).body, { recorded: true });
  assert.deepEqual((await put(path, body)).body, { recorded: false }, "a repeat changes nothing");
  const signature = await egat.signMessage(refusalMessage(second.contentHash, "root-differs"));
  const refusal = { round: 0, authoritySetEpoch: 3, refusal: "root-differs", signature };
  assert.deepEqual((await put(attestation(second, egat.address), refusal)).body, { recorded: true });
  assert.deepEqual(
    (await pending()).map((batch) => batch["interval"]),
    [batches[2]!.content.interval],
  );
  const detail = (await get(`/api/v1/batches/bangkok/${second.content.interval}`)).body;
  const attestations = detail["attestations"] as Record<string, unknown>[];
  assert.deepEqual(
    [attestations[0]!["authority"], attestations[0]!["refusal"]],
    [members[0], "root-differs"],
  );
  const other = await get(`/api/v1/authorities/${egat.address}/pending?authoritySetEpoch=4`);
  assert.equal((other.body as unknown as unknown[]).length, 4, "another epoch is signed anew");
});

test("a recorded attestation is announced", { timeout: 10_000 }, async (t) => {
  let heard = () => {};
  const news = new Promise<void>((resolve) => (heard = resolve));
  const listener = await listen(url, ATTESTATIONS_CHANNEL, () => heard());
  t.after(() => listener.stop());
  const [first] = batches as [Batch];
  const body = { round: 0, authoritySetEpoch: 3, signature: await sign(mea, first) };
  assert.equal((await put(attestation(first, mea.address), body)).status, 200);
  await news;
});

test("nothing is stored that the named authority did not sign for this batch, epoch and contract", async () => {
  const batch = batches[2]!;
  const path = attestation(batch, mea.address);
  const genuine = await sign(mea, batch);
  const byStranger = await sign(stranger, batch);
  const cases: [number, string, string, Record<string, unknown>][] = [
    [422, "signature-invalid", path, { signature: byStranger }],
    [422, "signature-invalid", path, { signature: await sign(mea, batches[1]!) }],
    [422, "signature-invalid", path, { signature: await sign(mea, batch, 2) }],
    [422, "signature-invalid", path, { signature: genuine, refusal: "root-differs" }],
    [403, "not-an-authority", attestation(batch, stranger.address), { signature: byStranger }],
    [409, "epoch-stale", path, { signature: await sign(mea, batch, 2), authoritySetEpoch: 2 }],
    [404, "unknown-batch", path, { signature: genuine, round: 1 }],
    [400, "bad-input", path, { signature: genuine.slice(0, -2) }],
    [400, "bad-input", path, { signature: genuine, round: "0" }],
    [400, "bad-input", path, { signature: genuine, extra: 1 }],
  ];
  for (const [status, code, address, change] of cases) {
    const answer = await put(address, { round: 0, authoritySetEpoch: 3, ...change });
    assert.deepEqual([answer.status, answer.body.code], [status, code], JSON.stringify(change).slice(0, 80));
  }
  const stored = await pool.query("select 1 from attestation where interval_end = $1", [
    batch.content.interval,
  ]);
  assert.equal(stored.rowCount, 0);
});

test("bad input is 400 and names the field, what is not there is 404 with a code, both as problems", async () => {
  const cases: [number, string, string | undefined, string][] = [
    [400, "bad-input", "limit", "/api/v1/meters?limit=0"],
    [400, "bad-input", "limit", "/api/v1/meters?limit=1001"],
    [400, "bad-input", "limit", "/api/v1/meters?limit=many"],
    [400, "bad-input", "colour", "/api/v1/meters?colour=red"],
    [400, "bad-input", "resolution", "/api/v1/meters/meter-1/readings?resolution=5m"],
    [400, "bad-input", "from", "/api/v1/meters/meter-1/readings?from=yesterday"],
    [400, "bad-input", "from", "/api/v1/meters/meter-1/readings?from=2026-13-45"],
    [400, "bad-input", "from", "/api/v1/meters/meter-1/readings?from=9&to=8"],
    [400, "bad-input", "interval", "/api/v1/batches/bangkok/noon"],
    [400, "bad-input", "address", "/api/v1/accounts/0x12/proof"],
    [400, "bad-input", "after", "/api/v1/quarantine?after=x"],
    [400, "bad-input", "round", "/api/v1/batches/bangkok/900?round=4294967296"],
    [404, "unknown-meter", undefined, "/api/v1/meters/none"],
    [404, "unknown-meter", undefined, "/api/v1/meters/none/readings"],
    [404, "unknown-batch", undefined, "/api/v1/batches/bangkok/900"],
    [404, "unknown-batch", undefined, "/api/v1/batches/bangkok/900?round=4294967295"],
    [404, "unknown-batch", undefined, "/api/v1/batches/bangkok/99999999999/evidence?round=2147483648"],
    [404, "unknown-batch", undefined, "/api/v1/batches/nowhere/900/evidence"],
    [404, "unknown-batch", undefined, `/api/v1/accounts/${accountOf(1)}/proof?interval=900`],
    [404, "unknown-account", undefined, `/api/v1/accounts/${accountOf(99)}/proof`],
    [404, "account-not-in-batch", undefined, `/api/v1/accounts/${accountOf(99)}/proof?region=bangkok`],
    [404, "unknown-route", undefined, "/api/v2"],
  ];
  for (const [status, code, field, path] of cases) {
    const { body, ...answer } = await get(path);
    assert.deepEqual([answer.status, body.code, body.field], [status, code, field], path);
    assert.match(answer.type ?? "", /^application\/problem\+json/);
  }
});

test("the greatest values that the schemas allow are answered, not a fault of the program", async () => {
  const authority = `/api/v1/authorities/${egat.address}/pending`;
  for (const path of [
    `${authority}?limit=500&authoritySetEpoch=4294967295`,
    "/api/v1/batches?before=99999999999&limit=500",
    "/api/v1/regions?intervals=96&to=99999999999",
    "/api/v1/regions?intervals=96&to=0",
    "/api/v1/meters/meter-1/readings?from=0&to=99999999999&limit=5000",
    "/api/v1/meters/meter-1/readings?from=0&to=99999999999&limit=1&resolution=1d",
    "/api/v1/meters/meter-1/readings?from=99999999998&to=99999999999&resolution=15m",
    "/api/v1/meters/meter-1/readings?from=1970-01-01&to=9999-12-31T23:59:59Z",
    "/api/v1/quarantine?after=rd.bangkok:999999999:999999999999999999:999999999&limit=1000",
  ]) {
    const answer = await get(path);
    assert.equal(answer.status, 200, `${path} ${JSON.stringify(answer.body)}`);
  }
});

test("an account with service points in two regions is asked which one", async () => {
  await pool.query("update meter set account = $1 where meter_id = 'meter-4'", [
    Buffer.from(accountOf(3).slice(2), "hex"),
  ]);
  const answer = await get(`/api/v1/accounts/${accountOf(3)}/proof`);
  assert.deepEqual([answer.status, answer.body.field], [400, "region"]);
  assert.equal((await get(`/api/v1/accounts/${accountOf(3)}/proof?region=bangkok`)).status, 200);
});

test("a body that is too large or not JSON is refused before it is read", async () => {
  const path = `${api.url}${attestation(batches[0]!, mea.address)}`;
  const send = (body: string) =>
    fetch(path, { method: "PUT", headers: { "content-type": "application/json" }, body });
  assert.equal((await send("x".repeat(20_000))).status, 413);
  const broken = await send("{");
  assert.deepEqual([broken.status, ((await broken.json()) as Body).code], [400, "bad-request"]);
});

test("quarantined readings are listed in the log's order, page by page", async () => {
  await pool.query(
    `insert into quarantine select 'readings.bangkok', n % 2, n, 0, 'meter-' || n, 0, n, ${T0}, 'register-fell'
       from generate_series(1, 5) n`,
  );
  const seen: unknown[] = [];
  for (let after = ""; ;) {
    const { items, next } = (await get(`/api/v1/quarantine?limit=2&region=bangkok${after}`)).body;
    seen.push(...items.map((item) => item["offset"]));
    if (next === undefined) break;
    after = `&after=${String(next)}`;
  }
  assert.deepEqual(seen, ["2", "4", "1", "3", "5"]);
  assert.equal((await get("/api/v1/quarantine?meter=meter-3")).body.items.length, 1);
});

test("the OpenAPI document names every route with its schemas", async () => {
  const { body } = await get("/api/v1/openapi.json");
  const paths = body["paths"] as Record<string, Record<string, { parameters?: { name: string }[] }>>;
  assert.deepEqual(Object.keys(paths).sort(), [
    "/api/v1/accounts/{address}/proof",
    "/api/v1/authorities/{address}/pending",
    "/api/v1/batches",
    "/api/v1/batches/{region}/{interval}",
    "/api/v1/batches/{region}/{interval}/attestations/{authority}",
    "/api/v1/batches/{region}/{interval}/evidence",
    "/api/v1/meters",
    "/api/v1/meters/{id}",
    "/api/v1/meters/{id}/readings",
    "/api/v1/quarantine",
    "/api/v1/regions",
    "/health",
    "/metrics",
    "/ready",
  ]);
  const readings = paths["/api/v1/meters/{id}/readings"]!["get"]!.parameters!.map(
    (parameter) => parameter.name,
  );
  assert.deepEqual(readings.sort(), ["from", "id", "limit", "resolution", "to"]);
});

test("without a chain proofs and attestations are 503, and what the ledger knows is still served", async (t) => {
  const alone = new Api({ port: 0 }, { ...dependencies, chain: undefined, metrics: new Registry() });
  t.after(() => alone.stop());
  await alone.start();
  const proof = await fetch(`${alone.url}/api/v1/accounts/${accountOf(1)}/proof`);
  assert.deepEqual([proof.status, ((await proof.json()) as Body).code], [503, "chain-not-configured"]);
  const batch = await fetch(`${alone.url}/api/v1/batches/bangkok/${batches[0]!.content.interval}`);
  assert.equal(batch.status, 200);
});

test("a ledger that is away is 503, and stopping twice is safe", async (t) => {
  const gone = new URL(url);
  gone.port = "1";
  const away = openPool(
    { connectionString: gone.href, applicationName: "test", maxConnections: 1, schema: "ledger" },
    () => {},
  );
  t.after(() => away.end());
  const alone = new Api({ port: 0 }, { ...dependencies, pool: away, metrics: new Registry() });
  t.after(() => alone.stop());
  await alone.start();
  const answer = await fetch(`${alone.url}/api/v1/batches`);
  assert.deepEqual([answer.status, ((await answer.json()) as Body).code], [503, "ledger-unavailable"]);
  await alone.stop();
  await alone.stop();
  assert.throws(() => new Api({ port: 0 }, dependencies).url, { code: "not-started" });
});

test("a port that is taken is an error that says so", async (t) => {
  const port = Number(new URL(api.url).port);
  const second = new Api({ port }, { ...dependencies, metrics: new Registry() });
  t.after(() => second.stop());
  await assert.rejects(second.start(), { code: "listen-failed" });
});

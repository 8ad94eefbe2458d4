import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test, type TestContext } from "node:test";
import { pino } from "pino";
import { startInflux } from "../../deploy/stack/influxdb.ts";
import { createTestDatabase } from "../../tests/support/postgres.ts";
import { until } from "../../tests/support/until.ts";
import { AnsweringProxy, type SeenRequest, type Treatment } from "../tests/answering-proxy.ts";
import { CuttableProxy } from "../tests/cuttable-proxy.ts";
import { ALL, DAY, ask, bucketOf, countsOf, ownNamespace, pointOf, settle } from "../tests/influx-fixture.ts";
import type { SeriesPoint } from "../time-series.ts";
import { InfluxTimeSeries, type InfluxTimeSeriesOptions } from "./influx-time-series.ts";

const DAY_S = 86_400;
const log = pino({ level: "silent" });
const folder = await mkdtemp(join(tmpdir(), "gridroot-influx-faults-"));
const server = await startInflux({ dataDir: folder });
after(async () => {
  await server.stop();
  await rm(folder, { recursive: true, force: true });
});

interface Behind {
  readonly options: InfluxTimeSeriesOptions;
  readonly proxy: AnsweringProxy;
  readonly marks: CuttableProxy;
  readonly series: InfluxTimeSeries;
}

/** A series of the test's own behind proxies to InfluxDB and to PostgreSQL. */
async function openBehind(t: TestContext, tuning: Partial<InfluxTimeSeriesOptions> = {}): Promise<Behind> {
  const proxy = new AnsweringProxy(server.url);
  const database = new URL(await createTestDatabase());
  const marks = new CuttableProxy({ host: database.hostname, port: Number(database.port) });
  database.port = String(await marks.listen());
  const options = {
    ...{ url: await proxy.listen(), org: server.org, token: server.token, namespace: ownNamespace() },
    ...{ marksUrl: database.href, ...tuning },
  };
  const series = await InfluxTimeSeries.open(options, { log });
  t.after(async () => {
    proxy.treat = () => "pass";
    await series.close();
    await Promise.all([proxy.close(), marks.close()]);
  });
  return { options, proxy, marks, series };
}

function isWrite({ path }: SeenRequest): boolean {
  return path === "/api/v2/write";
}

/** Treats writes so; everything else passes. */
function onWrites(treatment: Treatment): AnsweringProxy["treat"] {
  return (seen) => (isWrite(seen) ? treatment : "pass");
}

function points(meterId: string, count: number): SeriesPoint[] {
  return Array.from({ length: count }, (_, i) => pointOf(meterId, DAY + 1 + i));
}

test("overloaded, slow, cut or silent: retryable, and the same write again stores every point once", async (t) => {
  const { proxy, series } = await openBehind(t, { requestTimeoutMs: 2_000 });
  const cases: [string, Treatment, RegExp][] = [
    ["429", { status: 429, body: '{"code":"too many requests","message":"slow down"}' }, /429 .*slow down$/],
    ["500", { status: 500, body: '{"code":"internal error","message":"engine: no"}' }, /500 .*engine: no$/],
    ["503", { status: 503, body: "<html>upstream</html>" }, /^InfluxDB answered 503$/],
    ["cut", "cut", /cannot be reached: ECONNRESET$/],
    ["cut-after", "cut-after", /cannot be reached: ECONNRESET$/],
    ["hang", "hang", /did not answer within 2000 ms$/],
  ];
  for (const [name, treatment, message] of cases) {
    const all = points(`retry-${name}`, 20);
    proxy.treat = onWrites(treatment);
    await assert.rejects(series.write(all), { code: "series-unavailable", retryable: true, message }, name);
    proxy.treat = () => "pass";
    assert.deepEqual(await series.write(all), [], name);
    assert.deepEqual(await series.readings(`retry-${name}`, ALL, 100), all, name);
    await settle(series);
    assert.deepEqual(await countsOf(series, `retry-${name}`), [[DAY + 900, 20]], name);
  }
});

test("after Retry-After the next write waits as long", async (t) => {
  const { proxy, series } = await openBehind(t);
  const sentMs: number[] = [];
  proxy.treat = (seen) => {
    if (!isWrite(seen)) return "pass";
    sentMs.push(performance.now());
    return sentMs.length > 1 ? "pass" : { status: 429, headers: { "retry-after": "2" }, body: "{}" };
  };
  await assert.rejects(series.write(points("patient", 1)), { retryable: true });
  await series.write(points("patient", 1));
  assert.ok(sentMs[1]! - sentMs[0]! >= 1_990);
});

test("of a batch that InfluxDB cannot read the bad points are found and refused, the others are stored", async (t) => {
  const { proxy, series } = await openBehind(t);
  let requests = 0;
  const unreadable = /meter=poison-\d/;
  proxy.treat = (seen) => {
    if (!isWrite(seen)) return "pass";
    requests += 1;
    return unreadable.test(seen.body)
      ? { status: 400, body: '{"code":"invalid","message":"unable to parse \'reading,meter=poison\': bad"}' }
      : "pass";
  };
  const good = points("clean", 1_000);
  const bad = [pointOf("poison-1", DAY + 1), pointOf("poison-2", DAY + 2)];
  const refused = await series.write([...good.slice(0, 300), bad[0]!, ...good.slice(300), bad[1]!]);
  assert.deepEqual(
    refused.map(({ point }) => point),
    bad,
  );
  assert.match(refused[0]!.reason, /^InfluxDB: unable to parse/);
  assert.deepEqual(await series.readings("clean", ALL, 2_000), good);
  assert.ok(requests < 50, `${requests} requests`);
  await settle(series);
  assert.deepEqual(await countsOf(series, "poison-1"), []);
});

test("a partial write is no success for what was dropped, and no failure for the rest", async (t) => {
  const { options, series } = await openBehind(t);
  // InfluxDB's own retention, set by somebody else, drops what is older than two days.
  const { id } = await bucketOf(options, "raw");
  const retentionRules = [{ type: "expire", everySeconds: 2 * DAY_S, shardGroupDurationSeconds: DAY_S }];
  await ask(options, "PATCH", `/api/v2/buckets/${id}`, {}, JSON.stringify({ retentionRules }));
  const nowS = Math.floor(Date.now() / 1000);
  const good = Array.from({ length: 100 }, (_, i) => pointOf("partial", nowS - i));
  const old = [pointOf("partial", nowS - 40 * DAY_S), pointOf("partial", nowS - 41 * DAY_S)];
  const refused = await series.write([...good.slice(0, 10), ...old, ...good.slice(10)]);
  assert.deepEqual(
    refused.map(({ point }) => point),
    old,
  );
  for (const { reason } of refused) assert.match(reason, /^InfluxDB: .*partial write/);
  assert.equal((await series.readings("partial", ALL, 1_000)).length, 100);
  // All of a request refused is one request.
  assert.equal((await series.write(old)).length, 2);
});

test("what is not the points' fault makes no point a refused one", async (t) => {
  const { options, proxy, series } = await openBehind(t);
  proxy.treat = onWrites({ status: 400, body: "<html>bad request</html>" });
  await assert.rejects(series.write(points("blameless", 3)), { code: "series-failed", retryable: false });
  proxy.treat = onWrites({
    status: 400,
    body: '{"code":"invalid","message":"failed to parse organization"}',
  });
  await assert.rejects(series.write(points("blameless", 3)), { code: "series-failed", retryable: false });
  proxy.treat = () => "pass";
  // Somebody else has written a field with another type.
  const bucket = `${options.namespace}-raw`;
  await ask(options, "POST", "/api/v2/write", { bucket }, `reading,meter=x power_w=1.5 ${DAY + 1}000000000`);
  await assert.rejects(series.write([pointOf("blameless", DAY + 1, { powerW: 2 })]), {
    code: "series-failed",
    message: /field type conflict/,
  });
});

test("a token that was withdrawn, a bucket that is gone: named, not retryable, and over when put right", async (t) => {
  const { options, series } = await openBehind(t);
  const { id, orgID } = await bucketOf(options, "raw");
  const permissions = ["read", "write"].map((action) => ({ action, resource: { type: "buckets", orgID } }));
  const body = JSON.stringify({ orgID, permissions });
  const granted = (await ask(options, "POST", "/api/v2/authorizations", {}, body)) as {
    id: string;
    token: string;
  };
  const setStatus = (status: string) =>
    ask(options, "PATCH", `/api/v2/authorizations/${granted.id}`, {}, JSON.stringify({ status }));
  // May read and write the buckets, and nothing else, which is enough where they are there.
  const scoped = await InfluxTimeSeries.open({ ...options, token: granted.token }, { log });
  await setStatus("inactive");
  await assert.rejects(
    scoped.write(points("denied", 2)),
    (error: Error & { code: string; retryable: boolean }) => {
      assert.deepEqual([error.code, error.retryable], ["series-denied", false]);
      assert.match(error.message, /^InfluxDB answered 40[13] \((unauthorized|forbidden)\)/);
      assert.ok(!error.message.includes(granted.token));
      return true;
    },
  );
  // To who may not read a bucket, InfluxDB says that there is none.
  await assert.rejects(scoped.readings("denied", ALL, 1), { code: "series-missing", retryable: false });
  await setStatus("active");
  assert.deepEqual(await scoped.write(points("denied", 2)), []);
  await scoped.close();

  const rename = (name: string) =>
    ask(options, "PATCH", `/api/v2/buckets/${id}`, {}, JSON.stringify({ name }));
  await rename(`${options.namespace}-elsewhere`);
  await assert.rejects(series.write(points("denied", 4)), {
    code: "series-missing",
    message: /^InfluxDB answered 404 \(not found\): bucket "/,
  });
  await rename(`${options.namespace}-raw`);
  assert.deepEqual(await series.write(points("denied", 4)), []);
  assert.equal((await series.readings("denied", ALL, 10)).length, 4);
});

test("an answer to a query that breaks off, or ends in an error, is never taken for all of it", async (t) => {
  const { proxy, series } = await openBehind(t);
  await series.write(points("long", 500));
  const isQuery = ({ path }: SeenRequest) => path === "/api/v2/query";
  proxy.treat = (seen) => (isQuery(seen) ? { breakOffAfterBytes: 5_000 } : "pass");
  await assert.rejects(series.readings("long", ALL, 500), { code: "series-unavailable", retryable: true });
  const halted = [
    "#datatype,string,long,dateTime:RFC3339,string,long,long,long,long,long,string",
    "#group,false,false,false,true,false,false,false,false,false,true",
    "#default,_result,,,,,,,,,",
    ",result,table,_time,epoch,export_wh,import_wh,present,seq,status,region",
    ",,0,2026-02-16T00:00:01Z,0,0,1,0,1,0,r",
    "",
    "#datatype,string,string",
    "#group,true,true",
    "#default,,",
    ",error,reference",
    ",memory limit reached,",
    "",
  ].join("\r\n");
  proxy.treat = (seen) => (isQuery(seen) ? { status: 200, body: halted } : "pass");
  await assert.rejects(series.readings("long", ALL, 500), {
    ...{ code: "series-unavailable", retryable: true },
    message: "InfluxDB gave a query up: memory limit reached",
  });
});

test("a crash between points and marks is repaired by the next delivery", async (t) => {
  const { proxy, marks, series } = await openBehind(t, { requestTimeoutMs: 2_000 });
  proxy.treat = (seen) => {
    if (isWrite(seen)) marks.cut();
    return "pass";
  };
  await assert.rejects(series.write(points("unmarked", 3)), { code: "series-unavailable", retryable: true });
  proxy.treat = () => "pass";
  marks.restore();
  await settle(series);
  assert.deepEqual(await countsOf(series, "unmarked"), []);
  await series.write(points("unmarked", 3));
  await settle(series);
  assert.deepEqual(await countsOf(series, "unmarked"), [[DAY + 900, 3]]);
});

test("a repair between points and marks does not miss the points", async (t) => {
  const { proxy, series } = await openBehind(t);
  await series.write(points("between", 1));
  await settle(series);
  proxy.treat = async (seen): Promise<Treatment> => {
    if (isWrite(seen) && seen.body.includes("meter=between")) {
      proxy.treat = () => "pass";
      await settle(series);
    }
    return "pass";
  };
  await series.write(points("between", 2));
  await settle(series);
  assert.deepEqual(await countsOf(series, "between"), [[DAY + 900, 2]]);
});

test("what expires while it is written is refused, and while it is rolled up spoils no rollup", async (t) => {
  const { proxy, series } = await openBehind(t);
  const day = DAY_S * 30;
  const keep = {
    rawS: DAY_S,
    bucketS: { 900: 10_000 * DAY_S, 3600: 10_000 * DAY_S, 86_400: 10_000 * DAY_S },
  };
  const old = pointOf("expires", day + 5);
  await series.write([old, pointOf("expires", day + 6)]);
  await settle(series);
  const before = await series.buckets("expires", 900, ALL, 10);
  // The day expires after the repair has taken the mark and before it reads the points.
  await series.write([pointOf("expires", day + 7)]);
  const expireBefore = (path: string, untilDay: number) => {
    proxy.treat = async (seen): Promise<Treatment> => {
      if (seen.path === path) {
        proxy.treat = () => "pass";
        await series.expire(keep, untilDay + 2 * DAY_S);
        await series.write([pointOf("expires-not", untilDay + 2 * DAY_S)]);
      }
      return "pass";
    };
  };
  expireBefore("/api/v2/query", day);
  await settle(series);
  assert.deepEqual(await series.readings("expires", ALL, 10), []);
  assert.deepEqual(await series.buckets("expires", 900, ALL, 10), before);

  // The cutoff will be its day; InfluxDB's own retention reaches less far.
  const late = pointOf("expires", day + 3 * DAY_S);
  expireBefore("/api/v2/write", day + 2 * DAY_S);
  assert.deepEqual(await series.write([late]), [{ point: late, reason: "expired" }]);
  await settle(series);
  assert.deepEqual(await series.buckets("expires", 900, ALL, 10), before);
});

test("a rollup whose points were being deleted while they were read is not written", async (t) => {
  const { options, proxy, series } = await openBehind(t);
  const day = DAY_S * 30;
  const keep = {
    rawS: DAY_S,
    bucketS: { 900: 10_000 * DAY_S, 3600: 10_000 * DAY_S, 86_400: 10_000 * DAY_S },
  };
  await series.write([5, 6].map((s) => pointOf("halved", day + s)));
  await settle(series);
  const before = await series.buckets("halved", 900, ALL, 10);
  await series.write([pointOf("halved", day + 7)]);
  let isExpiring = false;
  proxy.treat = async ({ path }): Promise<Treatment> => {
    // InfluxDB has come half way.
    if (path === "/api/v2/delete") return { status: 204, body: "" };
    if (path !== "/api/v2/query" || isExpiring) return "pass";
    isExpiring = true;
    await series.expire(keep, day + 3 * DAY_S);
    const half = { start: "1970-01-01T00:00:00Z", stop: new Date((day + 5) * 1000 + 500).toISOString() };
    const bucket = `${options.namespace}-raw`;
    await ask({ ...options, url: server.url }, "POST", "/api/v2/delete", { bucket }, JSON.stringify(half));
    return "pass";
  };
  await settle(series);
  assert.deepEqual(
    (await series.readings("halved", ALL, 10)).map(({ t: instant }) => instant - day),
    [6, 7],
  );
  assert.deepEqual(await series.buckets("halved", 900, ALL, 10), before);
});

test("a write during a repair of its bucket marks the bucket again", async (t) => {
  const { options, proxy, series } = await openBehind(t);
  await series.write([pointOf("meanwhile", DAY + 1)]);
  let written = false;
  proxy.treat = async ({ path, bucket }): Promise<Treatment> => {
    // The repair has read the points and is about to write the rollup.
    if (path === "/api/v2/write" && bucket === `${options.namespace}-15m` && !written) {
      written = true;
      await series.write([pointOf("meanwhile", DAY + 2)]);
    }
    return "pass";
  };
  assert.equal(await series.repair(1), 1);
  assert.deepEqual(await countsOf(series, "meanwhile"), [[DAY + 900, 1]]);
  await settle(series);
  assert.deepEqual(await countsOf(series, "meanwhile"), [[DAY + 900, 2]]);
});

test("no other repair works on a bucket while one does, and one that hangs writes nothing after its lease", async (t) => {
  const { options, proxy, series } = await openBehind(t, { repairLeaseMs: 3_000 });
  const other = await InfluxTimeSeries.open({ ...options, url: server.url }, { log });
  t.after(() => other.close());
  await other.write([pointOf("leased", DAY + 1)]);
  let isHeld = false;
  proxy.treat = (seen) => {
    if (!isWrite(seen)) return "pass";
    isHeld = true;
    return "hang";
  };
  const beganMs = performance.now();
  const hanging = assert.rejects(series.repair(1), { code: "series-unavailable", retryable: true });
  await until("the first repair writes", () => Promise.resolve(isHeld));
  await other.write([pointOf("leased", DAY + 2)]);
  assert.equal(await other.repair(10), 0);
  await hanging;
  assert.ok(performance.now() - beganMs < 3_000, "its requests end before its lease");
  await until("the lease has ended", async () => (await other.repair(10)) > 0);
  await settle(other);
  assert.deepEqual(await countsOf(other, "leased"), [[DAY + 900, 2]]);
  assert.equal((await other.buckets("leased", 86_400, ALL, 1))[0]?.count, 2);
});

test("a repair that dies between the rollup and its marks leaves no stale hour or day", async (t) => {
  const { options, proxy, marks, series } = await openBehind(t, {
    repairLeaseMs: 2_000,
    requestTimeoutMs: 1_000,
  });
  await series.write([pointOf("orphan", DAY + 1)]);
  proxy.treat = ({ path, bucket }) => {
    if (path === "/api/v2/write" && bucket === `${options.namespace}-15m`) marks.cut();
    return "pass";
  };
  await assert.rejects(series.repair(10), { retryable: true });
  proxy.treat = () => "pass";
  marks.restore();
  assert.deepEqual(await countsOf(series, "orphan"), [[DAY + 900, 1]]);
  await until("the lease has ended", async () => (await series.repair(10)) > 0);
  await settle(series);
  for (const resolutionS of [900, 3600, 86_400] as const)
    assert.deepEqual(
      (await series.buckets("orphan", resolutionS, ALL, 1)).map(({ count, version }) => [count, version]),
      [[1, 1]],
      `${resolutionS} s`,
    );
  assert.equal((await series.completeness("region-of-orphan", ALL))[0]?.readings, 1);
});

test("a repair whose reads fail gives its marks back at once", async (t) => {
  const { proxy, series } = await openBehind(t);
  await series.write([pointOf("given-back", DAY + 1)]);
  proxy.treat = (seen) => (seen.path === "/api/v2/query" ? { status: 503, body: "" } : "pass");
  await assert.rejects(series.repair(10), { code: "series-unavailable" });
  proxy.treat = () => "pass";
  assert.ok((await series.repair(10)) > 0);
});

test("killed and restarted during writes, InfluxDB holds every point of every write that resolved", async (t) => {
  const { series } = await openBehind(t, { requestTimeoutMs: 5_000 });
  const resolved: SeriesPoint[] = [];
  const over = new AbortController();
  let failures = 0;
  const write = async (writer: number) => {
    for (let round = 0; !over.signal.aborted; round += 1) {
      const batch = Array.from({ length: 200 }, (_, i) =>
        pointOf(`survivor-${writer}`, DAY + 1 + round * 200 + i, { region: "survivors" }),
      );
      for (let isStored = false; !isStored && !over.signal.aborted;) {
        isStored = await series.write(batch).then(
          () => true,
          (error: { retryable?: boolean }) => {
            assert.equal(error.retryable, true);
            failures += 1;
            return false;
          },
        );
        if (isStored) resolved.push(...batch);
      }
    }
  };
  const writers = [write(0), write(1)];
  for (let kill = 0; kill < 3; kill += 1) {
    const before = resolved.length;
    await until("more is written", () => Promise.resolve(resolved.length > before + 2_000));
    await server.kill();
    const failed = failures;
    await until("writes fail", () => Promise.resolve(failures > failed));
    await server.start();
  }
  over.abort();
  await Promise.all(writers);
  for (const writer of [0, 1]) {
    const stored = new Set(
      (await series.readings(`survivor-${writer}`, ALL, 1_000_000)).map(({ seq }) => seq),
    );
    const lost = resolved.filter(({ meterId, seq }) => meterId === `survivor-${writer}` && !stored.has(seq));
    assert.deepEqual(lost, []);
  }
  assert.ok((await series.countReadings("survivors")) >= BigInt(resolved.length));
});

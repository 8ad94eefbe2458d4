import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import pg from "pg";
import { freePort } from "../cli/ports.ts";
import { Deployment, type MeterAccess, publishReadings } from "./support/deployment.ts";
import { createTestDatabase } from "./support/postgres.ts";
import { settlementCounts } from "./support/settlement-counts.ts";
import { until } from "./support/until.ts";

const folder = await mkdtemp(join(tmpdir(), "gridroot-roles-"));
const url = await createTestDatabase();
const database = new pg.Pool({ connectionString: url, max: 2, options: "-c search_path=ledger" });
const [mqttPort, httpPort, chainPort] = [await freePort(), await freePort(), await freePort()];
const addressFile = join(folder, "contract-address");
/** A boundary some intervals ago: what the meter reports lies in intervals that are over. */
const BEGIN = Math.floor(Date.now() / 1000 / 900) * 900 - 4 * 900;

const stores = { GRIDROOT_POSTGRES_URL: url, GRIDROOT_SEAL_GRACE_MS: "1000" };
const chain = {
  GRIDROOT_CHAIN_RPC_URL: `http://127.0.0.1:${chainPort}`,
  GRIDROOT_CONTRACT_ADDRESS_FILE: addressFile,
  GRIDROOT_CONFIRMATIONS: "0",
};
const home = { GRIDROOT_DATA_DIR: folder };
const http = { GRIDROOT_HTTP_PORT: String(httpPort) };
const deployment = new Deployment();

after(async () => {
  await deployment.stopAll();
  await database.end();
  await rm(folder, { recursive: true, force: true });
});

async function startRecorder(): Promise<void> {
  await deployment.start("recorder", ["start", "--roles", "recorder"], stores);
}

async function startAll(): Promise<void> {
  const keys = JSON.parse(await readFile(join(folder, "keys.json"), "utf8")) as Record<string, string>;
  const start = (role: string, environment: Readonly<Record<string, string>>, name = role) =>
    deployment.start(name, ["start", "--roles", role], environment);
  await Promise.all([
    start("ingest", { ...stores, GRIDROOT_MQTT_PORT: String(mqttPort) }),
    startRecorder(),
    start("aggregator", stores),
    start("api", { ...stores, ...chain, ...http }),
    start("relayer", { ...stores, ...chain, GRIDROOT_RELAYER_KEY: keys["relayer"] ?? "" }),
    ...["egat", "mea", "pea"].map((name) =>
      start(
        "authority",
        {
          ...{ ...stores, ...chain, ...http, GRIDROOT_AUTHORITY: name },
          GRIDROOT_AUTHORITY_KEY: keys[`authority-${name}`] ?? "",
        },
        `authority-${name}`,
      ),
    ),
  ]);
}

/** What the HTTP interface shows of the meter's readings. */
async function readingsShown(): Promise<string> {
  const query = `from=${BEGIN}&to=${BEGIN + 900}&resolution=raw`;
  const response = await fetch(`http://127.0.0.1:${httpPort}/api/v1/meters/my-meter/readings?${query}`);
  return JSON.stringify(await response.json());
}

test("a deployment is prepared as often as one likes, and always finds the same contract", async () => {
  await deployment.start("chain", ["start", "--roles", "chain"], {
    ...{ ...home, GRIDROOT_CHAIN_PORT: String(chainPort) },
  });
  const environment = { ...home, ...stores, GRIDROOT_CHAIN_RPC_URL: chain.GRIDROOT_CHAIN_RPC_URL };
  const prepare = () => deployment.run(["prepare", "--local-contract", addressFile], environment);
  const first = (await prepare()).at(-1);
  const address = (await readFile(addressFile, "utf8")).trim();
  assert.match(address, /^0x[0-9a-f]{40}$/);
  assert.equal(first, `contract ${address}`);
  assert.deepEqual((await prepare()).at(-1), first);
});

test("roles that each have a process of their own settle what a meter reports, and each tells its own metrics", async () => {
  await startAll();
  const account = "0x1111111111111111111111111111111111111111";
  const added = await deployment.run(
    ["meters", "add", "my-meter", "--region", "bangkok", "--account", account, "--at", String(BEGIN)],
    stores,
  );
  await publishReadings(mqttPort, JSON.parse(added.at(-1) ?? "") as MeterAccess, [
    { seq: 1, t: BEGIN + 450, importWh: 3, exportWh: 1000 },
    { seq: 2, t: BEGIN + 900, importWh: 3, exportWh: 2500 },
  ]);
  await until("the batch is final", async () => (await settlementCounts(database)).final === 1, 60_000);
  await until("the readings are shown", async () => /"1000".*"2500"/.test(await readingsShown()));
  assert.match(await deployment.metrics("ingest"), /^ingest_publish_appended_total 2$/m);
  const sealed = /^aggregator_batches_sealed_total\{region="bangkok"\} 1$/m;
  assert.match(await deployment.metrics("aggregator"), sealed);
  assert.doesNotMatch(await deployment.metrics("ingest"), sealed);
});

test("a series that is gone is rebuilt from the log, by a recorder that runs or by the next one", async () => {
  await deployment.stop("recorder");
  await database.query("drop schema series cascade");
  const lines = await deployment.run(["series", "rebuild"], stores);
  assert.ok(lines.includes("bangkok: 3 records of 2 partitions are recorded again"), lines.join("\n"));
  await startRecorder();
  await until("the readings are shown again", async () => /"1000".*"2500"/.test(await readingsShown()));
  assert.deepEqual((await deployment.run(["status", "--json"], stores)).at(-1)?.includes('"gaps":[]'), true);
});

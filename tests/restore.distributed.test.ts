import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { chmod, copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { ADAPTERS } from "../cli/adapters.ts";
import type { Context } from "../cli/context.ts";
import { commission, fleetDriver, plannedFleet } from "../cli/fleet-setup.ts";
import { Machine } from "../cli/machine.ts";
import { freePort } from "../cli/ports.ts";
import { chainFigures, countLogged, ledgerFigures } from "../cli/reconciliation.ts";
import { settleAll, waitForRoom } from "../cli/settling.ts";
import { startInflux } from "../deploy/stack/influxdb.ts";
import { startKafka } from "../deploy/stack/kafka.ts";
import { startPostgres } from "../deploy/stack/postgres.ts";
import { startRedis } from "../deploy/stack/redis.ts";
import { requireBackendSettings } from "../service/backends.ts";
import { SETTINGS, SETTINGS_PREFIX } from "../service/configuration.ts";
import { readGrid } from "../service/grid.ts";
import { readSettings } from "../service/settings.ts";
import { trueExportWh } from "../simulators/fleet.ts";
import { runDay } from "../simulators/runs.ts";
import { recorderBalance } from "../time-series/recorder-balance.ts";
import { type MeterAccess, publishReadings } from "./support/deployment.ts";
import { runProgram } from "./support/program.ts";
import { until } from "./support/until.ts";

const INTERVALS = 4;
const LENGTH_S = 900;
/** Yesterday, so that all of it is over; and the boundary after the run. */
const FROM = Math.floor(Date.now() / 1000 / 86_400) * 86_400 - 86_400;
const END = FROM + INTERVALS * LENGTH_S;
const EXTRA = "meter-of-the-backup";

const run = promisify(execFile);
const folder = await mkdtemp(join(tmpdir(), "gridroot-restore-"));
await chmod(folder, 0o755);
const backup = join(folder, "backup");
const script = (name: string) => fileURLToPath(new URL(`../deploy/backup/${name}`, import.meta.url));
const ports = {
  kafka: [await freePort(), await freePort()],
  ...{ mqtt: await freePort(), http: await freePort(), chain: await freePort() },
};
const stopping: (() => Promise<void>)[] = [];
after(async () => {
  for (const stop of stopping.toReversed()) await stop();
  await rm(folder, { recursive: true, force: true });
});

/** Servers of the test's own below a folder, and the environment that names them. */
async function startServers(
  name: string,
): Promise<{ environment: Record<string, string>; stop(): Promise<void> }> {
  const place = join(folder, name);
  await mkdir(place, { recursive: true });
  const [kafka, influx, redis, postgres] = await Promise.all([
    startKafka({ dataDir: join(place, "kafka"), brokers: 1, ports: ports.kafka }),
    startInflux({ dataDir: join(place, "influxdb") }),
    startRedis({ dataDir: join(place, "redis") }),
    startPostgres({ dataDir: join(place, "postgres") }),
  ]);
  const servers = [kafka, influx, redis, postgres];
  const stop = async () => {
    await Promise.all(servers.map((server) => server.stop()));
  };
  stopping.push(stop);
  return {
    stop,
    environment: {
      GRIDROOT_PROFILE: "distributed",
      GRIDROOT_KAFKA_BROKERS: kafka.bootstrap.join(),
      GRIDROOT_KAFKA_REPLICATION: "1",
      GRIDROOT_KAFKA_MIN_INSYNC_REPLICAS: "1",
      GRIDROOT_INFLUX_URL: influx.url,
      GRIDROOT_INFLUX_ORG: influx.org,
      GRIDROOT_INFLUX_TOKEN: influx.token,
      GRIDROOT_REDIS_URL: redis.url,
      GRIDROOT_POSTGRES_URL: postgres.url,
    },
  };
}

/** The chain, its keys and its journal lie in the data folder: no server of the deployment has them. */
async function contextOn(
  servers: Record<string, string>,
): Promise<{ context: Context; environment: Record<string, string> }> {
  const thailand = JSON.parse(await readFile(new URL("../config/thailand.json", import.meta.url), "utf8"));
  const gridFile = join(folder, "grid.json");
  await writeFile(gridFile, JSON.stringify({ ...thailand, regions: thailand.regions.slice(0, 2) }));
  const environment = {
    ...servers,
    GRIDROOT_DATA_DIR: join(folder, "data"),
    GRIDROOT_GRID_FILE: gridFile,
    GRIDROOT_LOG_FILE: join(folder, "gridroot.log"),
    GRIDROOT_MQTT_PORT: String(ports.mqtt),
    GRIDROOT_HTTP_PORT: String(ports.http),
    GRIDROOT_CHAIN_PORT: String(ports.chain),
    GRIDROOT_SEAL_GRACE_MS: "1000",
    // The copied log knows the members of its groups, and lets nobody in before their sessions have ended.
    GRIDROOT_KAFKA_SESSION_TIMEOUT_MS: "6000",
  };
  const settings = readSettings(SETTINGS, environment, SETTINGS_PREFIX);
  requireBackendSettings(settings);
  const { PATH = "", HOME = "" } = process.env;
  const context: Context = {
    settings,
    grid: await readGrid(gridFile),
    adapters: ADAPTERS,
    mainFile: fileURLToPath(new URL("../main.ts", import.meta.url)),
    inheritedEnvironment: { PATH, HOME },
    print: () => {},
  };
  return { context, environment };
}

async function startMachine(context: Context): Promise<Machine> {
  const machine = new Machine(context, { resetChain: false, observers: {}, regionsStartS: FROM });
  stopping.push(() => machine.stop());
  await machine.start();
  return machine;
}

interface Totals {
  readonly creditedWh: bigint;
  readonly batches: number;
  readonly settledWh: bigint;
  readonly settlements: number;
  readonly recorded: bigint;
}

/** What ledger, chain and series say, each region by itself; the series once it holds all of the log. */
async function totals(machine: Machine, context: Context): Promise<Readonly<Record<string, Totals>>> {
  const stores = await machine.process.stores();
  const regions: Record<string, Totals> = {};
  for (const { regionId, name } of context.grid.regions) {
    const { distinct } = await countLogged(stores.eventLog, name, context.settings.partitionsPerRegion);
    await until(
      `the series of ${name} holds ${distinct} readings`,
      async () => (await stores.timeSeries.countReadings(name)) >= BigInt(distinct),
      60_000,
    );
    const { creditedWh, batches } = await ledgerFigures(stores.ledger, name);
    const { settledWh, settlements } = await chainFigures(await machine.process.chain(), regionId);
    const recorded = await stores.timeSeries.countReadings(name);
    regions[name] = { creditedWh, batches, settledWh, settlements, recorded };
  }
  assert.deepEqual(await recorderBalance(stores.ledger), []);
  return regions;
}

/** A meter of which a reading is in the log when that is copied, and was not when the ledger was. */
async function addExtraMeter(environment: Record<string, string>): Promise<MeterAccess> {
  const account = "0x1111111111111111111111111111111111111111";
  const { code, lines, errors } = await runProgram(
    ["meters", "add", EXTRA, "--region", "bangkok", "--account", account, "--at", String(END)],
    environment,
  );
  assert.equal(code, 0, errors.join("\n"));
  return JSON.parse(lines.at(-1) ?? "") as MeterAccess;
}

async function backUpLedger(environment: Record<string, string>): Promise<void> {
  await mkdir(backup, { recursive: true });
  await run("sh", [script("ledger.sh"), "backup", join(backup, "ledger.dump")], {
    env: { PATH: process.env["PATH"], GRIDROOT_POSTGRES_URL: environment["GRIDROOT_POSTGRES_URL"] },
  });
}

async function backUpLog(server: string): Promise<void> {
  const kafka = join(folder, server, "kafka");
  await run("sh", [script("log.sh"), "backup", join(kafka, "broker-1/data"), join(backup, "kafka-1.tar")]);
  // The native stack keeps the cluster's name beside the broker's folder.
  await copyFile(join(kafka, "cluster-id"), join(backup, "cluster-id"));
}

/** Fills the folder of a broker that was never started. */
async function restoreLog(server: string): Promise<void> {
  const kafka = join(folder, server, "kafka");
  await mkdir(join(kafka, "broker-1"), { recursive: true });
  await run("sh", [script("log.sh"), "restore", join(backup, "kafka-1.tar"), join(kafka, "broker-1/data")]);
  await copyFile(join(backup, "cluster-id"), join(kafka, "cluster-id"));
  await writeFile(join(kafka, "broker-1/formatted"), "");
}

test("ledger and log restored into empty servers give the same totals, and go on from there", async () => {
  await restore().catch(async (cause: unknown) => {
    console.log((await readFile(join(folder, "gridroot.log"), "utf8")).split("\n").slice(-40).join("\n"));
    throw cause;
  });
});

async function restore(): Promise<void> {
  const first = await startServers("first");
  const { context, environment } = await contextOn(first.environment);
  const machine = await startMachine(context);
  const plan = {
    seed: "restore",
    secretKey: "restore",
    metersPerRegion: 4,
    start: FROM,
    intervals: INTERVALS,
  };
  const fleet = plannedFleet(context, plan);
  await commission(machine.process, fleet);
  const driver = await fleetDriver(machine.process, fleet, { from: FROM, lastEnd: END });
  await driver.start();
  const stores = await machine.process.stores();
  await runDay(
    { driver, from: FROM, intervals: INTERVALS },
    {
      setIngestClock: async () => {},
      waitForRoom: (end) => waitForRoom(stores, { from: FROM, lengthS: LENGTH_S }, end),
    },
  );
  await driver.stop();
  await settleAll(machine, { from: FROM, end: END });
  const before = await totals(machine, context);
  for (const [name, exported] of trueExportWh(fleet, END))
    assert.equal(before[name]?.settledWh, exported, name);

  const meter = await addExtraMeter(environment);
  await backUpLedger(environment);
  await publishReadings(ports.mqtt, meter, [{ seq: 1, t: END + 450, importWh: 0, exportWh: 1000 }]);
  await backUpLog("first");
  await machine.stop();
  await first.stop();
  await rm(join(folder, "first"), { recursive: true, force: true });

  await restoreLog("second");
  const second = await startServers("second");
  const restored = await contextOn(second.environment);
  const database = {
    PATH: process.env["PATH"],
    GRIDROOT_POSTGRES_URL: second.environment["GRIDROOT_POSTGRES_URL"],
  };
  await run("sh", [script("ledger.sh"), "restore", join(backup, "ledger.dump")], { env: database });
  await assert.rejects(
    run("sh", [script("ledger.sh"), "restore", join(backup, "ledger.dump")], { env: database }),
    /holds schemas of Gridroot already/,
    "a ledger that is there is not restored over",
  );
  const rebuilt = await runProgram(["series", "rebuild"], restored.environment);
  assert.equal(rebuilt.code, 0, rebuilt.errors.join("\n"));
  const again = await startMachine(restored.context);

  const bangkok = before["bangkok"]!;
  const withReading = { ...bangkok, recorded: bangkok.recorded + 1n };
  assert.deepEqual(await totals(again, restored.context), { ...before, bangkok: withReading });

  await publishReadings(ports.mqtt, meter, [
    { seq: 2, t: END + 900, importWh: 0, exportWh: 2500 },
    // Beyond the interval: the grace for the silent fleet runs from here.
    { seq: 3, t: END + 1200, importWh: 0, exportWh: 2600 },
  ]);
  const ledger = await again.process.ledger();
  await until(
    "the next batch is sealed",
    async () => (await ledgerFigures(ledger, "bangkok")).batches > bangkok.batches,
    60_000,
  );
  await settleAll(again, { from: FROM, end: END });
  const { bangkok: last, ...others } = await totals(again, restored.context);
  const { bangkok: _, ...othersBefore } = before;
  assert.deepEqual(others, othersBefore);
  assert.deepEqual(last, {
    creditedWh: bangkok.creditedWh + 2500n,
    batches: bangkok.batches + 1,
    settledWh: bangkok.settledWh + 2500n,
    settlements: bangkok.settlements + 1,
    recorded: bangkok.recorded + 3n,
  });
}

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ADAPTERS } from "../cli/adapters.ts";
import type { Context } from "../cli/context.ts";
import { commission, fleetDriver, plannedFleet } from "../cli/fleet-setup.ts";
import { Machine } from "../cli/machine.ts";
import { freePort } from "../cli/ports.ts";
import { chainFigures, countLogged, ledgerFigures } from "../cli/reconciliation.ts";
import { embeddedPostgres } from "../cli/stores.ts";
import { settleAll, waitForRoom, waitUntil } from "../cli/settling.ts";
import { SETTINGS, SETTINGS_PREFIX, type Settings } from "../service/configuration.ts";
import { readGrid } from "../service/grid.ts";
import { readSettings } from "../service/settings.ts";
import type { FleetDriver } from "../simulators/fleet-driver.ts";
import { type Fleet, trueExportWh } from "../simulators/fleet.ts";
import { runDay } from "../simulators/runs.ts";
import { recorderBalance } from "../time-series/recorder-balance.ts";

const INTERVALS = 12;
const WITHIN_MS = 200_000;
const SEEDS = (process.env["TEST_SEEDS"] ?? "1").split(",");

async function contextIn(folder: string, seed: string): Promise<Context> {
  const thailand = JSON.parse(await readFile(new URL("../config/thailand.json", import.meta.url), "utf8"));
  const gridFile = join(folder, "grid.json");
  // Two regions: enough for both partitions of two topics to have owners that die.
  await writeFile(gridFile, JSON.stringify({ ...thailand, regions: thailand.regions.slice(0, 2) }));
  const environment = {
    GRIDROOT_DATA_DIR: folder,
    GRIDROOT_GRID_FILE: gridFile,
    GRIDROOT_LOG_FILE: join(folder, "gridroot.log"),
    GRIDROOT_MQTT_PORT: String(await freePort()),
    GRIDROOT_HTTP_PORT: String(await freePort()),
    GRIDROOT_CHAIN_PORT: String(await freePort()),
    GRIDROOT_INGEST_WORKERS: "2",
    GRIDROOT_SEAL_GRACE_MS: "1000",
    GRIDROOT_SEED: seed,
  };
  const { PATH = "", HOME = "" } = process.env;
  return {
    settings: readSettings(SETTINGS, environment, SETTINGS_PREFIX),
    grid: await readGrid(gridFile),
    adapters: ADAPTERS,
    mainFile: new URL("../main.ts", import.meta.url).pathname,
    inheritedEnvironment: { PATH, HOME },
    print: () => {},
  };
}

interface Run {
  readonly seed: string;
  readonly from: number;
  readonly end: number;
  readonly fleet: Fleet;
}

/** The same elements in an order drawn from the seed. */
function shuffled(seed: string, elements: readonly string[]): readonly string[] {
  const rank = (element: string) => createHash("sha256").update(`${seed} ${element}`).digest("hex");
  return elements.toSorted((a, b) => (rank(a) < rank(b) ? -1 : 1));
}

async function kill(machine: Machine, name: string, settings: Settings): Promise<void> {
  let pid = machine.children.find((child) => child.name === name)?.pid;
  if (name === "postgres") {
    const server = embeddedPostgres(settings);
    await server.attach();
    pid = await server.pid();
  }
  assert.ok(pid !== undefined, `${name} runs`);
  process.kill(pid, "SIGKILL");
}

/** Publishes the run's intervals and kills somebody after each, until everybody has died once. */
async function publishUnderKills(machine: Machine, context: Context, run: Run): Promise<FleetDriver> {
  const stores = await machine.process.stores();
  await commission(machine.process, run.fleet);
  const driver = await fleetDriver(machine.process, run.fleet, { from: run.from, lastEnd: run.end });
  await driver.start();
  const order = shuffled(run.seed, [...machine.children.map(({ name }) => name), "postgres"]);
  const kills: Promise<void>[] = [];
  await runDay(
    { driver, from: run.from, intervals: INTERVALS },
    {
      setIngestClock: async () => {},
      waitForRoom: (boundary) =>
        retrying(() => waitForRoom(stores, { from: run.from, lengthS: 900 }, boundary)),
      onProgress: ({ intervalEnd }) => {
        const victim = order[(intervalEnd - run.from) / 900 - 1];
        if (victim !== undefined) kills.push(kill(machine, victim, context.settings));
      },
    },
  );
  await driver.stop();
  await Promise.all(kills);
  assert.equal(kills.length, order.length, "everybody died");
  return driver;
}

/** Meters, log, series, ledger and chain agree to the reading and the watt-hour. */
async function requireReconciled(
  machine: Machine,
  context: Context,
  run: Run,
  driver: FleetDriver,
): Promise<void> {
  const stores = await machine.process.stores();
  const truth = trueExportWh(run.fleet, run.end);
  for (const { regionId, name } of context.grid.regions) {
    const ledger = await ledgerFigures(stores.ledger, name);
    const settled = await chainFigures(await machine.process.chain(), regionId);
    assert.equal(ledger.creditedWh, truth.get(name), `${name}: credited`);
    assert.equal(settled.settledWh, ledger.creditedWh, `${name}: settled`);
    assert.equal(settled.settlements, ledger.batches, `${name}: settlements`);
    const { distinct } = await countLogged(stores.eventLog, name, context.settings.partitionsPerRegion);
    await waitUntil(async () => (await stores.timeSeries.countReadings(name)) >= BigInt(distinct));
    assert.equal(await stores.timeSeries.countReadings(name), BigInt(distinct), `${name}: recorded`);
    const tally = driver.tallies().get(name)!;
    assert.equal(tally.publishesAcked, tally.publishesSent, `${name}: acknowledged`);
  }
  assert.deepEqual(await recorderBalance(stores.ledger), []);
}

/** The database dies too: what asks it asks again. */
async function retrying<T>(work: () => Promise<T>): Promise<T> {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await work();
    } catch (cause) {
      if (attempt === 200) throw cause;
      await new Promise((done) => setTimeout(done, 100));
    }
  }
}

/** Rejects when `work` takes too long, so that what it started is stopped by whoever called. */
async function bounded<T>(work: Promise<T>, withinMs: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done within ${withinMs} ms`)), withinMs);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}

for (const seed of SEEDS) {
  test(`kill -9 of every role and the database loses nothing and settles nothing twice, seed ${seed}`, async () => {
    const folder = await mkdtemp(join(tmpdir(), "gridroot-crash-"));
    await chmod(folder, 0o755);
    const context = await contextIn(folder, seed);
    const from = Math.floor(Date.now() / 1000 / 86_400) * 86_400 - 86_400;
    const plan = { seed, secretKey: seed, metersPerRegion: 10, start: from, intervals: INTERVALS };
    const run: Run = { seed, from, end: from + INTERVALS * 900, fleet: plannedFleet(context, plan) };
    const machine = new Machine(context, {
      resetChain: false,
      observers: {},
      regionsStartS: from,
      apart: true,
    });

    async function work(): Promise<void> {
      await machine.start();
      const driver = await publishUnderKills(machine, context, run);
      await retrying(() => settleAll(machine, run));
      await requireReconciled(machine, context, run, driver);
    }

    try {
      await bounded(work(), WITHIN_MS);
    } catch (cause) {
      const log = await readFile(join(folder, "gridroot.log"), "utf8").catch(() => "");
      console.log(log.split("\n").slice(-40).join("\n"));
      throw cause;
    } finally {
      await machine.stop();
      await rm(folder, { recursive: true, force: true });
    }
  });
}

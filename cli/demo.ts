import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { GridrootError } from "../service/errors.ts";
import type { FleetDriver } from "../simulators/fleet-driver.ts";
import { type Fleet, trueExportWh } from "../simulators/fleet.ts";
import { runDay } from "../simulators/runs.ts";
import type { Context } from "./context.ts";
import { type DemoReport, printReport, type RegionFigures, reportJson, totalOf } from "./demo-report.ts";
import { demoServers, type DemoServers } from "./demo-servers.ts";
import { commission, fleetDriver, plannedFleet } from "./fleet-setup.ts";
import { Machine } from "./machine.ts";
import { freePort } from "./ports.ts";
import { apiUrl } from "./proof.ts";
import { chainFigures, checkProofs, countDeadLetters, countLogged, ledgerFigures } from "./reconciliation.ts";
import { settleAll, waitForRoom, waitUntil } from "./settling.ts";
import { stopOnSignal } from "./signals.ts";
import { unixNowS } from "./times.ts";

export interface DemoFlags {
  readonly day?: string;
  readonly meters: number;
  readonly intervals: number;
  readonly seed: string;
  readonly workers: number;
  readonly json?: boolean;
  readonly keep?: boolean;
}

const DAY_S = 86_400;
/** The demonstration's meters are known to be on time, or late beyond any grace. */
const GRACE_MS = 2000;
const STOP_WITHIN_MS = 30_000;

/**
 * Drives a day through the whole pipeline in a temporary folder and reconciles meters, log, series, ledger and chain.
 * Prints a table, and with `--json` one JSON line at the end. Whether every figure reconciles.
 */
export async function demo(context: Context, flags: DemoFlags): Promise<boolean> {
  const startedMs = performance.now();
  const day = planDay(context, flags);
  const folder = await mkdtemp(join(tmpdir(), "gridroot-demo-"));
  // PostgreSQL runs as another user under root, and must be able to enter.
  await chmod(folder, 0o755);
  const servers = await demoServers(context);
  const demonstration = { ...context, settings: await demoSettings(context, flags, folder, servers) };
  context.print(
    `day ${day.date} UTC, ${flags.meters} meters, ${flags.intervals} intervals, seed ${flags.seed}`,
  );

  const progress = (what: string) =>
    context.print(`${((performance.now() - startedMs) / 1000).toFixed(1).padStart(6)} s  ${what}`);
  const machine = new Machine(demonstration, { resetChain: false, observers: {}, regionsStartS: day.from });
  const stopped = stopOnSignal({ withinMs: STOP_WITHIN_MS }, async () => {
    await machine.stop();
    if (flags.keep === true) return;
    await servers.discard().catch((cause: unknown) => {
      context.print(`namespace ${servers.settings.namespace} was not deleted: ${(cause as Error).message}`);
    });
    await rm(folder, { recursive: true, force: true });
  });
  try {
    await machine.start();
    progress("all roles are up");
    const fleet = plannedFleet(demonstration, {
      seed: flags.seed,
      secretKey: flags.seed,
      metersPerRegion: flags.meters / context.grid.regions.length,
      start: day.from,
      intervals: flags.intervals,
    });
    const driver = await publishDay(machine, demonstration, { fleet, day, progress });
    await settleAll(machine, day);
    progress("all batches are final");
    const report = await reconcile(machine, demonstration, { fleet, driver, day, startedMs });
    for (const line of printReport(report)) context.print(line);
    if (flags.keep === true) context.print(`kept ${folder}, namespace ${servers.settings.namespace}`);
    if (flags.json === true) context.print(reportJson(report));
    return report.total.faults.length === 0;
  } finally {
    stopped.request();
    await stopped.done;
  }
}

interface Day {
  readonly date: string;
  /** The boundary before the first interval and the last boundary, unix seconds. */
  readonly from: number;
  readonly end: number;
  readonly intervals: number;
}

function planDay(context: Context, flags: DemoFlags): Day {
  const { intervalLengthS, regions } = context.grid;
  const nowS = unixNowS();
  const date = flags.day ?? new Date((nowS - DAY_S) * 1000).toISOString().slice(0, 10);
  const from = Date.parse(`${date}T00:00:00Z`) / 1000;
  if (!/^\d{4}-\d{2}-\d{2}$/.test(date) || Number.isNaN(from))
    throw invalid("--day", "is a date, YYYY-MM-DD");
  const perDay = DAY_S / intervalLengthS;
  if (flags.intervals < 1 || flags.intervals > perDay) throw invalid("--intervals", `is 1 to ${perDay}`);
  if (flags.meters < regions.length || flags.meters % regions.length !== 0) {
    throw invalid("--meters", `is a multiple of the ${regions.length} regions`);
  }
  if (flags.workers < 1 || flags.workers > 16) throw invalid("--workers", "is 1 to 16");
  const end = from + flags.intervals * intervalLengthS;
  // The contract settles no interval that lies in the future.
  if (end > nowS) throw invalid("--day", "must be over");
  return { date, from, end, intervals: flags.intervals };
}

async function demoSettings(context: Context, flags: DemoFlags, folder: string, servers: DemoServers) {
  return {
    ...context.settings,
    ...servers.settings,
    dataDir: folder,
    logFile: join(folder, "gridroot.log"),
    postgresPort: 0,
    mqttPort: await freePort(),
    httpPort: await freePort(),
    httpHost: "127.0.0.1",
    apiUrl: "",
    chainRpcUrl: "",
    chainPort: await freePort(),
    contractAddress: "",
    relayerKey: "",
    ingestWorkers: flags.workers,
    clockSource: "parent",
    sealGraceMs: GRACE_MS,
    // The day may lie years back: nothing of it is to expire under the demonstration.
    rawRetentionDays: 36_500,
    rollupRetentionDays: 36_500,
    faultPoint: "",
  } as const;
}

async function publishDay(
  machine: Machine,
  context: Context,
  { fleet, day, progress }: { fleet: Fleet; day: Day; progress: (what: string) => void },
): Promise<FleetDriver> {
  const stores = await machine.process.stores();
  const run = { from: day.from, lengthS: context.grid.intervalLengthS };
  await commission(machine.process, fleet);
  await machine.setReadingClock(day.from * 1000);
  const driver = await fleetDriver(machine.process, fleet, { from: day.from, lastEnd: day.end });
  await driver.start();
  progress(`${fleet.servicePoints.length} meters are connected`);
  try {
    await runDay(
      { driver, from: day.from, intervals: day.intervals },
      {
        setIngestClock: (nowMs) => machine.setReadingClock(nowMs),
        waitForRoom: (end) => waitForRoom(stores, run, end),
        onProgress: ({ intervalEnd }) => {
          const done = (intervalEnd - day.from) / run.lengthS;
          if (done % 24 === 0 || intervalEnd === day.end)
            progress(`published ${done} of ${day.intervals} intervals`);
        },
      },
    );
  } finally {
    await driver.stop();
  }
  return driver;
}

interface Run {
  readonly fleet: Fleet;
  readonly driver: FleetDriver;
  readonly day: Day;
  readonly startedMs: number;
}

async function reconcile(machine: Machine, context: Context, run: Run): Promise<DemoReport> {
  const process_ = machine.process;
  const stores = await process_.stores();
  const chain = await process_.chain();
  const truth = trueExportWh(run.fleet, run.day.end);
  const deadLettered = await countDeadLetters(stores.eventLog, stores.ledger);
  const regions: Record<string, RegionFigures> = {};
  for (const { regionId, name } of context.grid.regions) {
    const tally = run.driver.tallies().get(name);
    const exported = truth.get(name);
    if (tally === undefined || exported === undefined) throw invalid("region", `${name} has no meters`);
    const logged = await countLogged(stores.eventLog, name, process_.settings.partitionsPerRegion);
    const recorded = await waitForRecorded(stores, name, logged.distinct);
    const ledger = await ledgerFigures(stores.ledger, name);
    const settled = await chainFigures(chain, regionId);
    const proofsChecked = await checkProofs(
      { stores, chain, apiUrl: apiUrl({ settings: process_.settings }) },
      name,
      settled.interval,
    );
    regions[name] = {
      ...tally,
      ...logged,
      recorded,
      deadLettered: deadLettered.get(name) ?? 0,
      intervals: (ledger.sealedUntil - run.day.from) / context.grid.intervalLengthS,
      expectedIntervals: run.day.intervals,
      ledgerBatches: ledger.batches,
      batches: settled.settlements,
      trueExportWh: exported,
      creditedWh: ledger.creditedWh,
      settledWh: settled.settledWh,
      proofsChecked,
      seconds: (performance.now() - run.startedMs) / 1000,
    };
  }
  return { regions, total: totalOf(regions, (performance.now() - run.startedMs) / 1000) };
}

/** The recorder trails the log: waits until it has caught up, or is found not to. */
async function waitForRecorded(
  stores: Awaited<ReturnType<Machine["process"]["stores"]>>,
  region: string,
  expected: number,
): Promise<number> {
  const deadlineMs = performance.now() + 30_000;
  await waitUntil(
    async () =>
      (await stores.timeSeries.countReadings(region)) >= BigInt(expected) || performance.now() > deadlineMs,
    100,
  );
  return Number(await stores.timeSeries.countReadings(region));
}

function invalid(what: string, why: string): GridrootError {
  return new GridrootError("argument-invalid", `${what} ${why}`);
}

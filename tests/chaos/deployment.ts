import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ADAPTERS } from "../../cli/adapters.ts";
import type { Context } from "../../cli/context.ts";
import { commission, plannedFleet } from "../../cli/fleet-setup.ts";
import { Machine } from "../../cli/machine.ts";
import { freePort } from "../../cli/ports.ts";
import { SETTINGS, SETTINGS_PREFIX } from "../../service/configuration.ts";
import { readGrid } from "../../service/grid.ts";
import { readSettings } from "../../service/settings.ts";
import type { Fleet } from "../../simulators/fleet.ts";
import type { Backends } from "./backends.ts";
import { METER_READINGS_PER_S } from "./load.ts";
import { roleTarget, type Target } from "./targets.ts";

const DAY_S = 86_400;
/** Simulated time begins so many days ago, and may take as long before it meets the real time. */
const DAYS_BACK = 14;
/** Fewer intervals than a fleet needs to swap meters; registers roll over within them. */
const FLEET_INTERVALS = 7;
const REGIONS = 2;
/** More load than is asked for, so that a timer that comes late does not fail a run. */
const MARGIN = 1.05;
const GRACE_MS = 3000;

/** Every role in a process of its own on the backends of a profile, and meters that it knows. */
export interface Deployment {
  readonly context: Context;
  readonly machine: Machine;
  readonly fleet: Fleet;
  readonly targets: readonly Target[];
  readonly logFile: string;
  /** Ends everything. The folder with data and logs stays where it is to be `kept`. */
  stop(kept: boolean): Promise<void>;
}

export interface DeploymentOptions {
  readonly seed: string;
  readonly readingsPerS: number;
}

/** Starts everything in a temporary folder. `prepare` starts the servers that the machine does not bring itself. */
export async function deploy(
  options: DeploymentOptions,
  prepare: (folder: string) => Promise<Backends>,
): Promise<Deployment> {
  const folder = await mkdtemp(join(tmpdir(), "gridroot-chaos-"));
  // PostgreSQL runs as another user under root, and must be able to enter.
  await chmod(folder, 0o755);
  const backends = await prepare(folder);
  const context = await contextIn(folder, options.seed, backends);
  const start = Math.floor(Date.now() / 1000 / DAY_S) * DAY_S - DAYS_BACK * DAY_S;
  const machine = new Machine(context, {
    resetChain: false,
    observers: {},
    regionsStartS: start,
    apart: true,
  });
  const stop = async (kept: boolean): Promise<void> => {
    await machine.stop();
    await backends.stop();
    if (!kept) await rm(folder, { recursive: true, force: true });
  };
  try {
    await machine.start();
    const fleet = plannedFleet(context, {
      seed: options.seed,
      secretKey: options.seed,
      metersPerRegion: Math.ceil((options.readingsPerS * MARGIN) / METER_READINGS_PER_S / REGIONS),
      start,
      intervals: FLEET_INTERVALS,
    });
    await commission(machine.process, fleet);
    const targets = [...roleTargets(machine), ...(await backends.targets(context.settings))];
    return { context, machine, fleet, targets, logFile: context.settings.logFile, stop };
  } catch (cause) {
    await stop(false);
    throw cause;
  }
}

async function contextIn(folder: string, seed: string, backends: Backends): Promise<Context> {
  const thailand = JSON.parse(
    await readFile(new URL("../../config/thailand.json", import.meta.url), "utf8"),
  ) as { regions: readonly unknown[] };
  const gridFile = join(folder, "grid.json");
  await writeFile(gridFile, JSON.stringify({ ...thailand, regions: thailand.regions.slice(0, REGIONS) }));
  const environment = {
    GRIDROOT_DATA_DIR: folder,
    GRIDROOT_GRID_FILE: gridFile,
    GRIDROOT_LOG_FILE: join(folder, "gridroot.log"),
    GRIDROOT_MQTT_PORT: String(await freePort()),
    GRIDROOT_HTTP_PORT: String(await freePort()),
    GRIDROOT_CHAIN_PORT: String(await freePort()),
    GRIDROOT_INGEST_WORKERS: "2",
    GRIDROOT_SEAL_GRACE_MS: String(GRACE_MS),
    GRIDROOT_SEED: seed,
    ...backends.environment,
  };
  const { PATH = "", HOME = "" } = process.env;
  return {
    settings: readSettings(SETTINGS, environment, SETTINGS_PREFIX),
    grid: await readGrid(gridFile),
    adapters: ADAPTERS,
    mainFile: new URL("../../main.ts", import.meta.url).pathname,
    inheritedEnvironment: { PATH, HOME },
    print: () => {},
  };
}

/** Readings pass through ingest, recorder and aggregator. */
function roleTargets(machine: Machine): readonly Target[] {
  const carriesReadings = /^(ingest-\d+|recorder|aggregator)$/;
  return machine.children.map((child) => roleTarget(child, carriesReadings.test(child.name) ? 2 : 1));
}

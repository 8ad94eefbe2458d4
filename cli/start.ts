import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { addWh, subWh } from "../domain/metering/units.ts";
import { findBatch } from "../ledger/batches.ts";
import { systemClock } from "../service/clock.ts";
import { SETTINGS } from "../service/configuration.ts";
import { GridrootError } from "../service/errors.ts";
import { readOrCreateKeys } from "../service/keys.ts";
import { redacted } from "../service/settings.ts";
import { replayThenLive } from "../simulators/runs.ts";
import type { Context } from "./context.ts";
import { commission, fleetDriver, plannedFleet } from "./fleet-setup.ts";
import { Machine } from "./machine.ts";
import type { RoleProcess, SettlementSeen } from "./role-process.ts";
import { sealedUntil, waitForRoom } from "./settling.ts";
import { stopOnSignal } from "./signals.ts";
import { isoInstant, unixNowS } from "./times.ts";

const STOP_WITHIN_MS = 30_000;
const REPLAY_S = 86_400;
/** The local chain mines the confirmation depth once it has been quiet for so long. */
const QUIET_MS = 1000;
/** A replay reports its progress each so many intervals. */
const PROGRESS_EVERY = 4;

/** Runs everything on this machine until it is told to stop. */
export async function start(
  given: Context,
  flags: { simulators: boolean; resetChain?: boolean },
): Promise<void> {
  const context = withLogInDataDir(given);
  await mkdir(context.settings.dataDir, { recursive: true });
  const ending = new AbortController();
  const observed = new SettlementLines(context);
  const machine = new Machine(context, {
    resetChain: flags.resetChain ?? false,
    observers: { onMined: (seen) => observed.mined(machine, seen) },
  });
  const stopped = stopOnSignal({ withinMs: STOP_WITHIN_MS }, async () => {
    context.print("stopping");
    ending.abort();
    await observed.stop();
    // Where the simulation failed, `start` reports it; the machine is stopped in order all the same.
    await simulation.catch(() => {});
    await machine.stop();
    context.print("stopped");
  });
  let simulation: Promise<void> = Promise.resolve();
  try {
    await machine.start();
    printAddresses(context, machine.process);
    if (flags.simulators && context.settings.simulatedMetersPerRegion > 0) {
      simulation = simulate(context, machine.process, ending.signal);
      await Promise.race([simulation, stopped.done]);
    }
    await stopped.done;
  } catch (cause) {
    const wasTold = stopped.requested;
    stopped.request();
    await stopped.done;
    // A start that was interrupted has not failed.
    if (!wasTold) throw cause;
  }
}

function withLogInDataDir(context: Context): Context {
  const { logFile, dataDir } = context.settings;
  if (logFile !== "") return context;
  return { ...context, settings: { ...context.settings, logFile: join(dataDir, "gridroot.log") } };
}

function printAddresses(context: Context, { settings, log }: RoleProcess): void {
  log.info({ settings: redacted(SETTINGS, settings) }, "settings");
  context.print(`MQTT   ${settings.mqttHost}:${settings.mqttPort}`);
  context.print(`HTTP   http://${settings.httpHost}:${settings.httpPort}`);
  context.print(
    `chain  ${settings.chainRpcUrl}  id ${settings.chainId}  contract ${settings.contractAddress}`,
  );
  context.print(`log    ${settings.logFile}`);
}

/** A line for each settled batch; and the confirmation depth on the local chain, which mines only what is sent. */
class SettlementLines {
  readonly #context: Context;
  #depth: NodeJS.Timeout | undefined;
  #mining: Promise<void> = Promise.resolve();
  /** Lines are printed one after the other, in the order of the chain. */
  #printed: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(context: Context) {
    this.#context = context;
  }

  mined(machine: Machine, seen: SettlementSeen): void {
    if (this.#stopped) return;
    const log = machine.process.log;
    this.#printed = this.#printed
      .then(() => this.#print(machine.process, seen))
      .catch((error: unknown) => log.warn({ err: error }, "settlement not shown"));
    if (this.#context.settings.chainRpcUrl !== "") return;
    clearTimeout(this.#depth);
    this.#depth = setTimeout(() => {
      this.#mining = machine
        .mine(this.#context.settings.confirmations)
        .catch((error: unknown) => log.warn({ err: error }, "confirmation depth not mined"));
    }, QUIET_MS);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#depth);
    await this.#printed;
    await this.#mining;
  }

  async #print(process_: RoleProcess, seen: SettlementSeen): Promise<void> {
    const ledger = await process_.ledger();
    const region = this.#context.grid.regions.find(({ regionId }) => regionId === seen.regionId)?.name ?? "";
    const batch = await findBatch(ledger, { region, interval: seen.interval, round: seen.round });
    if (batch === undefined) return;
    const { content } = batch;
    const totalWh = subWh(content.cumulativeCreditWh, content.cumulativeDebitWh);
    this.#context.print(
      `settled ${region.padEnd(12)} ${isoInstant(seen.interval)}  ${content.leafCount} accounts  ` +
        `+${addWh(content.intervalCreditWh, batch.heldWh)} Wh  total ${totalWh} Wh  ${seen.transactionHash}`,
    );
  }
}

/** What a simulated fleet follows from; kept, so that the next start continues the same meters. */
interface FleetMemory {
  readonly seed: string;
  readonly metersPerRegion: number;
  readonly start: number;
}

async function simulate(context: Context, process_: RoleProcess, signal: AbortSignal): Promise<void> {
  const { settings, grid, print } = context;
  const lengthS = grid.intervalLengthS;
  const memory = await rememberedFleet(context);
  const keys = await readOrCreateKeys(join(settings.dataDir, "simulated-meters.key"), ["secrets"]);
  const fleet = plannedFleet(context, {
    ...memory,
    secretKey: keys["secrets"] ?? "",
    intervals: REPLAY_S / lengthS,
  });
  await commission(process_, fleet);
  const stores = await process_.stores();
  const from = Math.max(memory.start, await sealedUntil(stores, memory.start));
  const driver = await fleetDriver(process_, fleet, { from });
  await driver.start();
  const nowS = unixNowS();
  const toReplay = Math.floor((nowS - from) / lengthS);
  print(`replaying ${toReplay} intervals from ${isoInstant(from)}, ${fleet.servicePoints.length} meters`);
  let live = false;
  await replayThenLive(
    { driver, from },
    {
      clock: systemClock,
      signal,
      waitForRoom: (end) => waitForRoom(stores, { from, lengthS }, end),
      onProgress: ({ intervalEnd, replayed }) => {
        const done = (intervalEnd - from) / lengthS;
        if (replayed && done % PROGRESS_EVERY === 0)
          print(`replayed ${done} of ${toReplay}, up to ${isoInstant(intervalEnd)}`);
        if (replayed || live) return;
        live = true;
        print("live: readings come in real time from here on");
      },
    },
  );
}

async function rememberedFleet(context: Context): Promise<FleetMemory> {
  const { settings, grid } = context;
  const file = join(settings.dataDir, "simulated-meters.json");
  const wanted = { seed: settings.seed, metersPerRegion: settings.simulatedMetersPerRegion };
  const known = await readFile(file, "utf8").then(
    (content) => JSON.parse(content) as FleetMemory,
    () => undefined,
  );
  if (known !== undefined) {
    if (known.seed === wanted.seed && known.metersPerRegion === wanted.metersPerRegion) return known;
    throw new GridrootError(
      "fleet-changed",
      `${settings.dataDir} holds ${known.metersPerRegion} meters a region of seed ${JSON.stringify(known.seed)}: ` +
        `keep them, or take another ${SETTINGS.dataDir.name}`,
    );
  }
  const nowS = unixNowS();
  const memory = { ...wanted, start: nowS - REPLAY_S - ((nowS - REPLAY_S) % grid.intervalLengthS) };
  await writeFile(`${file}.new`, `${JSON.stringify(memory)}\n`);
  await rename(`${file}.new`, file);
  return memory;
}

import { readFile } from "node:fs/promises";
import { settleAll, waitUntil } from "../../cli/settling.ts";
import { stopOnSignal } from "../../cli/signals.ts";
import { GridrootError } from "../../service/errors.ts";
import type { Backends } from "./backends.ts";
import { catchUpRatio } from "./catch-up.ts";
import { deploy, type Deployment } from "./deployment.ts";
import { Execution, type Struck } from "./execution.ts";
import { Load } from "./load.ts";
import { Monitor } from "./monitor.ts";
import { drawPlan, type Outage } from "./plan.ts";
import { countReadings, type EnergyFigures, judgeEnergy, type ReadingFigures } from "./verdict.ts";

export interface ChaosOptions {
  readonly profile: string;
  readonly seed: string;
  readonly faults: number;
  readonly outages: readonly Outage[];
  /** Load to be offered, readings a second; a run that did not reach it fails. */
  readonly readingsPerS: number;
  /** Factor on every bound of time. */
  readonly patience: number;
  /** Whether data and logs stay where they are. */
  readonly keep: boolean;
}

export interface ChaosDependencies {
  /** Starts the servers that a machine of the profile does not bring itself, in a folder of theirs. */
  readonly prepare: (folder: string) => Promise<Backends>;
  /** Names of the stores behind the recorder, whose outages pile up work for it. */
  readonly stores: readonly string[];
  readonly print: (line: string) => void;
}

/** What a run has shown; its form as a JSON line is the command's result. */
export interface ChaosReport extends ReadingFigures, Omit<EnergyFigures, "faults"> {
  readonly profile: string;
  readonly seed: string;
  /** Faults that were carried out. */
  readonly faults: number;
  /** After the longest time that a store was away; null where none was, or nothing had piled up. */
  readonly catchUpRatio: number | null;
  /** Load that was offered. */
  readonly readingsPerS: number;
  /** Share of a core that the simulated meters took. */
  readonly generatorCores: number;
  /** Most that a process of each role held. */
  readonly rssMaxBytes: Readonly<Record<string, number>>;
  /** The same in both halves of the longest outage of a store; null where no outage was asked for. */
  readonly rssOutageBytes: Readonly<Record<string, readonly [first: number, second: number]>> | null;
  readonly seconds: number;
  /** What must not be, in words; empty where everything is as it has to be. */
  readonly failures: readonly string[];
}

const STOP_WITHIN_MS = 60_000;
const SETTLED_WITHIN_MS = 180_000;
/** The load runs so long before the first fault, for memory and sealing to settle. */
const STEADY_WITHIN_MS = 60_000;
/** So much more may a role take in the second half of an outage than in the first: what piles up would take more. */
const FLAT_WITHIN_BYTES = 64 * 1024 * 1024;
const LEAST_CATCH_UP_RATIO = 3;

/** Runs the whole pipeline under load, strikes it as planned, lets it finish and judges what is left. */
export async function chaos(options: ChaosOptions, dependencies: ChaosDependencies): Promise<ChaosReport> {
  const startedMs = performance.now();
  const deployment = await deploy(options, dependencies.prepare);
  const run = new Run(options, dependencies, deployment);
  const stopped = stopOnSignal({ withinMs: STOP_WITHIN_MS }, async () => {
    await run.stop();
    await deployment.stop(options.keep);
    if (options.keep) dependencies.print(`kept ${deployment.logFile}`);
  });
  try {
    return await run.judge(startedMs);
  } finally {
    stopped.request();
    await stopped.done;
  }
}

class Run {
  readonly #options: ChaosOptions;
  readonly #dependencies: ChaosDependencies;
  readonly #deployment: Deployment;
  readonly #load: Load;
  readonly #monitor: Monitor;
  readonly #execution: Execution;
  readonly #failures: string[] = [];

  constructor(options: ChaosOptions, dependencies: ChaosDependencies, deployment: Deployment) {
    const { machine, context, fleet, targets } = deployment;
    this.#options = options;
    this.#dependencies = dependencies;
    this.#deployment = deployment;
    this.#load = new Load({ fleet, host: context.settings.mqttHost, port: context.settings.mqttPort });
    const regions = context.grid.regions.map(({ name }) => name);
    this.#monitor = new Monitor({ regions, start: fleet.start }, { machine, load: this.#load });
    this.#execution = new Execution(options, { targets, monitor: this.#monitor, print: dependencies.print });
  }

  async judge(startedMs: number): Promise<ChaosReport> {
    const cpuBefore = process.cpuUsage();
    await this.#load.start();
    this.#monitor.start();
    await this.#strike();
    const cpu = process.cpuUsage(cpuBefore);
    const end = await this.#load.finish();
    const { readingsTaken, runningMs } = this.#load.figures();
    const readingsPerS = readingsTaken / (runningMs / 1000);
    await this.#noting(() =>
      within(SETTLED_WITHIN_MS * this.#options.patience, "settled", this.#settled(end)),
    );
    await this.#monitor.stop();
    const { machine, fleet } = this.#deployment;
    const readings = await countReadings(await machine.process.timeSeries(), this.#load, end);
    const energy = await judgeEnergy(machine, fleet, end);
    this.#failures.push(...energy.faults);
    const { creditedOnce, batchesDoubled } = energy;
    const report: ChaosReport = {
      profile: this.#options.profile,
      seed: this.#options.seed,
      faults: this.#execution.struck.filter(({ kind }) => kind !== "outage").length,
      ...readings,
      ...{ creditedOnce, batchesDoubled },
      catchUpRatio: this.#catchUpRatio(),
      readingsPerS: Math.round(readingsPerS),
      generatorCores: rounded((cpu.user + cpu.system) / 1000 / runningMs),
      rssMaxBytes: Object.fromEntries(this.#monitor.memoryBetween(0, Infinity)),
      rssOutageBytes: this.#memoryOfOutage(),
      seconds: Math.round((performance.now() - startedMs) / 1000),
      failures: this.#failures,
    };
    this.#failures.push(...this.#shortcomings(report));
    if (this.#failures.length > 0) await this.#printLog();
    return report;
  }

  async stop(): Promise<void> {
    await this.#monitor.stop();
    await this.#load.stop();
  }

  async #strike(): Promise<void> {
    const { seed, faults, outages } = this.#options;
    const targets = this.#deployment.targets.map(({ spec }) => spec);
    const plan = drawPlan({ seed, faults, targets, outages });
    await this.#noting(async () => {
      await this.#monitor.recovered(STEADY_WITHIN_MS * this.#options.patience);
      await this.#execution.carryOut(plan);
    });
  }

  /** Everything is acknowledged, recorded, sealed and final. */
  async #settled(end: number): Promise<void> {
    const { machine, fleet } = this.#deployment;
    await waitUntil(async () => this.#load.figures().publishesUnacknowledged === 0);
    await settleAll(machine, { from: fleet.start, end });
    await waitUntil(async () => this.#monitor.samples.at(-1)?.unrecorded === 0);
  }

  #longestOutage(): Struck | undefined {
    const ofStores = this.#execution.struck.filter(({ target }) =>
      this.#dependencies.stores.includes(target),
    );
    return ofStores.toSorted((a, b) => b.upMs - b.atMs - (a.upMs - a.atMs))[0];
  }

  #catchUpRatio(): number | null {
    const outage = this.#longestOutage();
    if (outage === undefined) return null;
    const { publishes, runningMs } = this.#load.figures();
    const ratio = catchUpRatio(this.#monitor.samples, outage.upMs, publishes / (runningMs / 1000));
    return ratio === undefined ? null : rounded(ratio);
  }

  #memoryOfOutage(): ChaosReport["rssOutageBytes"] {
    const outage = this.#longestOutage();
    if (outage?.kind !== "outage") return null;
    const middleMs = (outage.atMs + outage.upMs) / 2;
    const first = this.#monitor.memoryBetween(outage.atMs, middleMs);
    const second = this.#monitor.memoryBetween(middleMs, outage.upMs);
    return Object.fromEntries([...first].map(([role, bytes]) => [role, [bytes, second.get(role) ?? 0]]));
  }

  /** What the figures themselves must show. */
  #shortcomings(report: ChaosReport): readonly string[] {
    const grown = Object.entries(report.rssOutageBytes ?? {}).filter(
      ([, [first, second]]) => second > first + FLAT_WITHIN_BYTES,
    );
    const required: [boolean, string][] = [
      [report.lost === 0, `${report.lost} acknowledged readings are lost`],
      [report.duplicatesInStore === 0, `${report.duplicatesInStore} readings are stored twice`],
      [report.batchesDoubled === 0, `${report.batchesDoubled} batches or settlements are doubled`],
      [
        report.readingsPerS >= this.#options.readingsPerS,
        `${report.readingsPerS} readings/s were offered, ${this.#options.readingsPerS} wanted`,
      ],
      [
        this.#options.outages.length === 0 || (report.catchUpRatio ?? Infinity) >= LEAST_CATCH_UP_RATIO,
        `the recorder caught up ${report.catchUpRatio} times as fast as the load`,
      ],
      [
        grown.length === 0,
        `memory grew as long as the store was away: ${grown.map(([role]) => role).join(", ")}`,
      ],
    ];
    return required.filter(([holds]) => !holds).map(([, failure]) => failure);
  }

  /** A failure that ends its part of the run, and not the run: what is left is still judged. */
  async #noting(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (cause) {
      const message = (cause as Error).message;
      this.#failures.push(message);
      this.#dependencies.print(`failed: ${message}`);
    }
  }

  async #printLog(): Promise<void> {
    const log = await readFile(this.#deployment.logFile, "utf8").catch(() => "");
    for (const line of log.trim().split("\n").slice(-40)) this.#dependencies.print(line);
  }
}

async function within(ms: number, what: string, work: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new GridrootError("too-late", `not ${what} within ${ms} ms`)), ms);
  });
  await Promise.race([work, late]).finally(() => clearTimeout(timer));
}

function rounded(value: number): number {
  return Math.round(value * 100) / 100;
}

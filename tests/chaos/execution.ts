import { setTimeout as delay } from "node:timers/promises";
import { GridrootError } from "../../service/errors.ts";
import type { Monitor, Recovery } from "./monitor.ts";
import type { Fault, Step } from "./plan.ts";
import type { Target } from "./targets.ts";

/** A fault that was carried out. Instants are ms of `performance.now()`. */
export interface Struck extends Fault {
  readonly number: number;
  readonly atMs: number;
  /** When the target did its work again. */
  readonly upMs: number;
}

/** A role may load its code on a busy machine, and a server replay its journal, within this. */
const UP_WITHIN_MS = 60_000;
const RECOVERED_WITHIN_MS = 120_000;
const POLL_MS = 50;

export interface ExecutionOptions {
  /** Factor on every bound: 1 on a machine that does nothing else. */
  readonly patience: number;
}

export interface ExecutionDependencies {
  readonly targets: readonly Target[];
  readonly monitor: Monitor;
  readonly print: (line: string) => void;
}

/**
 * Carries out a plan step by step: a step's faults, then its targets up again, then, where the step says so, the
 * pipeline carrying the load again, then the rest. Prints a line for each fault once the pipeline has recovered.
 * Rejects with `target-lost` or `not-recovered`, naming who did not come back, and strikes nobody any more.
 */
export class Execution {
  readonly #patience: number;
  readonly #dependencies: ExecutionDependencies;
  readonly #startedMs = performance.now();
  readonly #struck: Struck[] = [];
  #unreported: Struck[] = [];

  constructor(options: ExecutionOptions, dependencies: ExecutionDependencies) {
    this.#patience = options.patience;
    this.#dependencies = dependencies;
  }

  /** What has been carried out so far. */
  get struck(): readonly Struck[] {
    return this.#struck;
  }

  async carryOut(plan: readonly Step[]): Promise<void> {
    for (const step of plan) {
      await this.#strike(step);
      if (step.waitsForRecovery) await this.awaitRecovery();
      await delay(step.restMs);
    }
    await this.awaitRecovery();
  }

  /** Waits until the pipeline carries the load, and reports the faults that were not reported yet. */
  async awaitRecovery(): Promise<void> {
    const longestMs = Math.max(0, ...this.#unreported.map(({ forMs }) => forMs));
    const withinMs = Math.max(RECOVERED_WITHIN_MS * this.#patience, longestMs);
    const recovery = await this.#dependencies.monitor.recovered(withinMs);
    for (const fault of this.#unreported) this.#report(fault, recovery);
    this.#unreported = [];
  }

  async #strike({ faults, apartMs }: Step): Promise<void> {
    const first = this.#struck.length + 1;
    const struck = await Promise.all(
      faults.map(async (fault, index): Promise<Struck> => {
        await delay(index * apartMs);
        const target = this.#dependencies.targets.find(({ spec }) => spec.name === fault.target);
        if (target === undefined) throw new GridrootError("target-unknown", `there is no ${fault.target}`);
        const atMs = performance.now();
        await target.strike(fault);
        await up(target, UP_WITHIN_MS * this.#patience);
        return { ...fault, number: first + index, atMs, upMs: performance.now() };
      }),
    );
    this.#struck.push(...struck);
    this.#unreported.push(...struck);
  }

  #report({ number, target, kind, forMs, atMs, upMs }: Struck, recovery: Recovery): void {
    const seconds = (ms: number): string => (ms / 1000).toFixed(1);
    this.#dependencies.print(
      `${seconds(atMs - this.#startedMs).padStart(7)} s  #${number} ${target} ${kind} ${seconds(forMs)} s: ` +
        `up after ${seconds(upMs - atMs)} s, recovered after ${seconds(recovery.atMs - atMs)} s` +
        (recovery.last === "" ? "" : `, ${recovery.last} last`),
    );
  }
}

async function up(target: Target, withinMs: number): Promise<void> {
  const endMs = performance.now() + withinMs;
  while (!(await target.isUp())) {
    if (performance.now() > endMs) {
      throw new GridrootError("target-lost", `${target.spec.name} did not come back within ${withinMs} ms`);
    }
    await delay(POLL_MS);
  }
}

import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "pino";
import { Counter, Histogram, type Registry } from "prom-client";
import type { Clock } from "../service/clock.ts";
import type { Service } from "../service/lifecycle.ts";
import { assertRetention } from "./retention.ts";
import type { SeriesRetention, TimeSeries } from "./time-series.ts";

export interface RollupsOptions {
  readonly retention: SeriesRetention;
  /** Buckets that one round repairs at the most. Default 2,000. */
  readonly maxBucketsPerRound?: number;
  /** Pause between being woken and a round, so that what comes together is repaired once. Default 1 s. */
  readonly gatherMs?: number;
  /** Pause when nobody wakes: other processes write too. Default 5 s. */
  readonly idleMs?: number;
  /** How often expired data is dropped. Default 1 h. */
  readonly expireEveryMs?: number;
}

export interface RollupsDependencies {
  readonly timeSeries: TimeSeries;
  readonly log: Logger;
  readonly metrics: Registry;
  readonly clock: Clock;
}

const MAX_PAUSE_MS = 30_000;

/**
 * Keeps the rollups right and the series within its retention. Rounds of repair follow one another while there is
 * work, each followed by a pause as long as itself, so that repairing takes half of one connection at the most.
 * Several may run.
 */
export class Rollups implements Service {
  readonly name = "rollups";
  readonly #options: Required<RollupsOptions>;
  readonly #dependencies: RollupsDependencies;
  readonly #repaired: Counter;
  readonly #failures: Counter<"step">;
  readonly #roundSeconds: Histogram;
  readonly #stop = new AbortController();
  #wake = new AbortController();
  #running: Promise<void> = Promise.resolve();
  #nextExpiryMs = 0;

  /** Throws `series-retention`, see `assertRetention`. */
  constructor(options: RollupsOptions, dependencies: RollupsDependencies) {
    assertRetention(options.retention);
    this.#options = {
      maxBucketsPerRound: 2_000,
      gatherMs: 1_000,
      idleMs: 5_000,
      expireEveryMs: 3_600_000,
      ...options,
    };
    this.#dependencies = { ...dependencies, log: dependencies.log.child({ part: "rollups" }) };
    const registers = [dependencies.metrics];
    this.#repaired = new Counter({
      name: "rollups_repaired_buckets_total",
      help: "Buckets computed anew, of all resolutions.",
      registers,
    });
    this.#failures = new Counter({
      name: "rollups_failures_total",
      help: "Rounds that failed and are repeated, by step: repair, expire.",
      labelNames: ["step"],
      registers,
    });
    this.#roundSeconds = new Histogram({
      name: "rollups_round_duration_seconds",
      help: "Time of one round of repair.",
      buckets: [0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
      registers,
    });
  }

  start(): Promise<void> {
    this.#running = this.#run();
    return Promise.resolve();
  }

  /** Ends after the round under way. What is marked stays marked. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  /** Says that there is something to repair. Cheap, and may be called after every write. */
  wake(): void {
    this.#wake.abort();
  }

  async #run(): Promise<void> {
    let failures = 0;
    while (!this.#stop.signal.aborted) {
      this.#wake = new AbortController();
      try {
        const tookMs = await this.#round();
        failures = 0;
        if (tookMs === undefined) await this.#idle();
        else await sleep(tookMs, this.#stop.signal);
      } catch (error) {
        failures += 1;
        this.#failed("repair", failures, error);
        const pauseMs = this.#options.gatherMs * 2 ** Math.min(failures, 10);
        await sleep(Math.min(pauseMs, MAX_PAUSE_MS), this.#stop.signal);
      }
      await this.#expireWhenDue();
    }
  }

  /** One round of repair; how long it took, or undefined where there was nothing to repair. */
  async #round(): Promise<number | undefined> {
    const began = performance.now();
    const repaired = await this.#dependencies.timeSeries.repair(this.#options.maxBucketsPerRound);
    if (repaired === 0) return undefined;
    const tookMs = performance.now() - began;
    this.#repaired.inc(repaired);
    this.#roundSeconds.observe(tookMs / 1000);
    return tookMs;
  }

  /** Until woken, and then as long as it takes for more to gather, or until it is time to look by itself. */
  async #idle(): Promise<void> {
    const { gatherMs, idleMs } = this.#options;
    await sleep(idleMs, AbortSignal.any([this.#stop.signal, this.#wake.signal]));
    if (this.#wake.signal.aborted) await sleep(gatherMs, this.#stop.signal);
  }

  /** A failed expiry is tried again after a minute: it deletes only what is not needed. */
  async #expireWhenDue(): Promise<void> {
    const { clock, timeSeries } = this.#dependencies;
    const nowMs = clock.nowMs();
    if (this.#stop.signal.aborted || nowMs < this.#nextExpiryMs) return;
    try {
      await timeSeries.expire(this.#options.retention, Math.floor(nowMs / 1000));
      this.#nextExpiryMs = nowMs + this.#options.expireEveryMs;
    } catch (error) {
      this.#failed("expire", 1, error);
      this.#nextExpiryMs = nowMs + Math.min(60_000, this.#options.expireEveryMs);
    }
  }

  #failed(step: "repair" | "expire", failures: number, error: unknown): void {
    this.#failures.inc({ step });
    const { log } = this.#dependencies;
    if (failures === 1) log.error({ err: error, step }, "rollups fail and are repeated");
    else log.debug({ err: error, step }, "rollups failed again");
  }
}

async function sleep(ms: number, signal: AbortSignal): Promise<void> {
  await delay(ms, undefined, { signal }).catch(() => {});
}

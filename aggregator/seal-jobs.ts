import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "pino";
import type { Clock } from "../service/clock.ts";
import { GridrootError } from "../service/errors.ts";
import {
  type JobQueue,
  type JobsBackend,
  type JobStore,
  type JobWorker,
  openJobStore,
  type RunningJob,
} from "../service/job-store.ts";
import type { AggregatorMetrics } from "./aggregator-metrics.ts";
import type { RegionWatch } from "./region-watch.ts";
import type { Sealer } from "./sealer.ts";

export interface SealJobsOptions {
  /** Where the jobs are kept. */
  readonly backend: JobsBackend;
  /** How often all regions are looked at, whatever was announced. */
  readonly sweepEveryMs: number;
  /** Regions that one process seals at a time. */
  readonly concurrency: number;
  /** After so long without a sign of life from its worker a job is another's. */
  readonly lockMs: number;
}

export interface SealJobsDependencies {
  readonly sealer: Sealer;
  readonly watches: ReadonlyMap<number, RegionWatch>;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: AggregatorMetrics;
}

const QUEUE = "seals";
const SWEEP = "sweep";
const ATTEMPTS = 5;
const FIRST_BACKOFF_MS = 200;
/** After so many sweeps it is looked whether there are any. */
const SWEEPS_PER_CHECK = 5;
/** How long a start waits for the store, and a stop for its answers. */
const STORE_WITHIN_MS = 10_000;
const CLOSE_WITHIN_MS = 2_000;

/**
 * Seal jobs: `look` adds the job `seal-{region}-{end}` as soon as a region can be sealed, on whichever process it is
 * noticed; one worker takes it and seals every interval that is ready. Completed and failed jobs are removed, because
 * a kept id would swallow the next job of that name; one added while its namesake runs is swallowed all the same, so
 * the region is looked at again after each job, and a scheduled sweep looks at all regions.
 *
 * Jobs and schedule may be lost, as when Redis comes back without its data. Each process looks at all regions and for
 * the schedule when the store is back, and every few sweeps. While the store is away nothing is added: sealing waits.
 */
export class SealJobs {
  readonly #options: SealJobsOptions;
  readonly #dependencies: SealJobsDependencies;
  readonly #looking = new Map<number, { again: boolean; done: Promise<void> }>();
  readonly #alarms = new Map<number, NodeJS.Timeout>();
  readonly #running = new Set<Promise<void>>();
  #store: JobStore | undefined;
  #queue: JobQueue | undefined;
  #worker: JobWorker | undefined;
  #checks: NodeJS.Timeout | undefined;
  #checking: Promise<void> | undefined;
  #nextSweepMs: number | undefined;
  #stopped = false;

  constructor(options: SealJobsOptions, dependencies: SealJobsDependencies) {
    this.#options = options;
    this.#dependencies = dependencies;
  }

  /** @throws GridrootError of `openJobStore`; `jobs-unavailable` (retryable): the store went away meanwhile */
  async start(): Promise<void> {
    const { backend, sweepEveryMs, concurrency, lockMs } = this.#options;
    const { log, metrics } = this.#dependencies;
    const store = await openJobStore(backend, { log });
    this.#store = store;
    const queue = store.openQueue(QUEUE);
    this.#queue = queue;
    queue.on("error", (error) => this.#complain(error, "seal queue"));
    await ready(queue);
    await this.#scheduleSweep(queue);
    const process = (job: RunningJob) => this.#track(this.#process(job));
    const worker = store.openWorker(QUEUE, process, { concurrency, lockMs, maxStalledCount: ATTEMPTS });
    this.#worker = worker;
    worker.on("error", (error) => this.#complain(error, "seal worker"));
    worker.on("failed", (job, error) => this.#failed(job, error));
    worker.on("completed", (job) => this.#lookAfter(job));
    await ready(worker);
    metrics.jobsAvailable.set(store.isAway ? 0 : 1);
    store.onChange((isAway) => {
      metrics.jobsAvailable.set(isAway ? 0 : 1);
      if (!isAway) this.#check();
    });
    this.#checks = setInterval(() => this.#check(), sweepEveryMs * SWEEPS_PER_CHECK);
  }

  /** Waits for the seals that run; what is queued stays there for the others or the next start. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearInterval(this.#checks);
    for (const alarm of this.#alarms.values()) clearTimeout(alarm);
    await Promise.all([...this.#looking.values()].map(({ done }) => done));
    await this.#checking;
    const closed = Promise.allSettled([this.#worker?.close(), this.#queue?.close()]);
    // A store that is away would be waited for without end. A job that it does not know as done runs once more.
    do {
      await Promise.allSettled(this.#running);
      await Promise.race([closed, delay(CLOSE_WITHIN_MS, undefined, { ref: false })]);
    } while (this.#running.size > 0);
    await this.#store?.end();
    await Promise.race([closed, delay(CLOSE_WITHIN_MS, undefined, { ref: false })]);
    await this.#store?.end();
  }

  /** Looks whether a region can be sealed; calls while one look is under way are one further look. */
  look(regionId: number): void {
    const running = this.#looking.get(regionId);
    if (this.#stopped || this.#queue === undefined || this.#store?.isAway === true) return;
    if (running !== undefined) {
      running.again = true;
      return;
    }
    const look = { again: false, done: Promise.resolve() };
    this.#looking.set(regionId, look);
    look.done = this.#lookUntilQuiet(regionId, look);
  }

  async #lookUntilQuiet(regionId: number, look: { again: boolean }): Promise<void> {
    try {
      do {
        look.again = false;
        await this.#lookOnce(regionId);
      } while (look.again && !this.#stopped);
    } catch (error) {
      // The sweep looks again.
      this.#complain(error, "could not look whether to seal", { regionId });
    } finally {
      this.#looking.delete(regionId);
    }
  }

  async #lookOnce(regionId: number): Promise<void> {
    const { sealer, watches } = this.#dependencies;
    const watch = watches.get(regionId);
    if (watch === undefined) return;
    const readiness = await sealer.look(watch.region);
    if (readiness.kind === "grace") this.#lookAt(regionId, readiness.untilMs);
    if (readiness.kind === "barrier-ahead") await watch.refresh();
    if (readiness.kind !== "ready" && readiness.kind !== "barrier-missing") return;
    await this.#queue!.add(
      "seal",
      { regionId },
      {
        jobId: `seal-${regionId}-${readiness.end}`,
        removeOnComplete: true,
        removeOnFail: true,
        attempts: ATTEMPTS,
        backoff: { type: "exponential", delay: FIRST_BACKOFF_MS },
      },
    );
  }

  #lookAt(regionId: number, atMs: number): void {
    clearTimeout(this.#alarms.get(regionId));
    const waitMs = Math.min(Math.max(0, atMs - this.#dependencies.clock.nowMs()), this.#options.sweepEveryMs);
    this.#alarms.set(
      regionId,
      setTimeout(() => this.look(regionId), waitMs),
    );
  }

  /** Looks at all regions, and makes sure that the sweep goes on: a schedule that does not move has come to an end. */
  #check(): void {
    if (this.#stopped || this.#checking !== undefined || this.#store?.isAway === true) return;
    for (const regionId of this.#dependencies.watches.keys()) this.look(regionId);
    this.#checking = this.#checkSweep()
      .catch((error: unknown) => this.#complain(error, "could not look for the sweep"))
      .finally(() => (this.#checking = undefined));
  }

  async #checkSweep(): Promise<void> {
    const queue = this.#queue!;
    const next = (await queue.getJobScheduler(SWEEP))?.next;
    if (next === undefined || next === this.#nextSweepMs) await this.#scheduleSweep(queue);
    this.#nextSweepMs = next;
  }

  async #scheduleSweep(queue: JobQueue): Promise<void> {
    await queue.upsertJobScheduler(
      SWEEP,
      { every: this.#options.sweepEveryMs },
      { name: SWEEP, data: {}, opts: { removeOnComplete: true, removeOnFail: true } },
    );
  }

  #track(work: Promise<void>): Promise<void> {
    this.#running.add(work);
    return work.finally(() => this.#running.delete(work));
  }

  async #process(job: RunningJob): Promise<void> {
    const { sealer, watches } = this.#dependencies;
    if (job.name === SWEEP) {
      for (const regionId of watches.keys()) this.look(regionId);
      return;
    }
    const watch = watches.get(Number(job.data["regionId"]));
    if (watch === undefined) {
      throw new GridrootError("region-unknown", "a seal job is for a region that is not configured here");
    }
    await sealer.sealReady(watch);
  }

  #failed(job: RunningJob | undefined, error: Error): void {
    const { log, metrics } = this.#dependencies;
    metrics.sealFailures.inc();
    log.error({ err: error, job: job?.id, attempts: job?.attemptsMade }, "seal job failed");
  }

  #lookAfter(job: RunningJob): void {
    if (job.name !== SWEEP) this.look(Number(job.data["regionId"]));
  }

  /** An outage of the store is told once, by the store itself. */
  #complain(error: unknown, message: string, fields: { readonly regionId?: number } = {}): void {
    if (this.#stopped || this.#store?.isAway === true) return;
    this.#dependencies.log.warn({ err: error, ...fields }, message);
  }
}

async function ready(part: { waitUntilReady(): Promise<void> }): Promise<void> {
  const late = delay(STORE_WITHIN_MS, undefined, { ref: false }).then(() => {
    throw new GridrootError("jobs-unavailable", "the store of the jobs does not answer", { retryable: true });
  });
  await Promise.race([part.waitUntilReady(), late]);
}

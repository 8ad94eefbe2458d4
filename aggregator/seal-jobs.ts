import {
  createPostgresBackend,
  type Job,
  type JobProgress,
  type PostgresConnectionOptions,
  type PostgresQueueBackend,
  Queue,
  Worker,
} from "bullmq";
import type { Logger } from "pino";
import type { Clock } from "../service/clock.ts";
import { GridrootError } from "../service/errors.ts";
import type { AggregatorMetrics } from "./aggregator-metrics.ts";
import type { RegionWatch } from "./region-watch.ts";
import type { Sealer } from "./sealer.ts";

export interface SealJobsOptions {
  /** PostgreSQL, directly: BullMQ listens. */
  readonly connectionString: string;
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

interface SealJob {
  readonly regionId?: number;
}

type SealQueue = Queue<
  SealJob,
  void,
  string,
  SealJob,
  void,
  string,
  PostgresQueueBackend,
  PostgresConnectionOptions
>;
type SealWorker = Worker<SealJob, void, string, PostgresQueueBackend, JobProgress, PostgresConnectionOptions>;

const QUEUE = "seals";
const SWEEP = "sweep";
const ATTEMPTS = 5;
const FIRST_BACKOFF_MS = 200;
const CONNECTIONS = 4;

/**
 * Seal jobs: `look` adds the job `seal-{region}-{end}` as soon as a region can be sealed, on whichever process it is
 * noticed; one worker takes it and seals every interval that is ready. Completed and failed jobs are removed, because
 * a kept id would swallow the next job of that name; one added while its namesake runs is swallowed all the same, so
 * the region is looked at again after each job, and a scheduled sweep looks at all regions.
 */
export class SealJobs {
  readonly #options: SealJobsOptions;
  readonly #dependencies: SealJobsDependencies;
  readonly #looking = new Map<number, { again: boolean; done: Promise<void> }>();
  readonly #alarms = new Map<number, NodeJS.Timeout>();
  #queue: SealQueue | undefined;
  #worker: SealWorker | undefined;
  #stopped = false;

  constructor(options: SealJobsOptions, dependencies: SealJobsDependencies) {
    this.#options = options;
    this.#dependencies = dependencies;
  }

  async start(): Promise<void> {
    const { connectionString, sweepEveryMs, concurrency, lockMs } = this.#options;
    const { log } = this.#dependencies;
    const connection = { connectionString, migrate: true, max: CONNECTIONS };
    const queue: SealQueue = new Queue(QUEUE, { connection }, createPostgresBackend);
    this.#queue = queue;
    queue.on("error", (error) => log.warn({ err: error }, "seal queue"));
    await queue.waitUntilReady();
    await queue.upsertJobScheduler(
      SWEEP,
      { every: sweepEveryMs },
      { name: SWEEP, data: {}, opts: { removeOnComplete: true, removeOnFail: true } },
    );
    const worker: SealWorker = new Worker(
      QUEUE,
      (job: Job<SealJob, void>) => this.#process(job),
      { connection, concurrency, lockDuration: lockMs, stalledInterval: lockMs, maxStalledCount: ATTEMPTS },
      createPostgresBackend,
    );
    this.#worker = worker;
    worker.on("error", (error) => log.warn({ err: error }, "seal worker"));
    worker.on("failed", (job, error) => this.#failed(job, error));
    worker.on("completed", (job) => this.#lookAfter(job));
    await worker.waitUntilReady();
  }

  /** Waits for the jobs that run; what is queued stays there for the others or the next start. */
  async stop(): Promise<void> {
    this.#stopped = true;
    for (const alarm of this.#alarms.values()) clearTimeout(alarm);
    await Promise.all([...this.#looking.values()].map(({ done }) => done));
    await this.#worker?.close();
    await this.#queue?.close();
  }

  /** Looks whether a region can be sealed; calls while one look is under way are one further look. */
  look(regionId: number): void {
    const running = this.#looking.get(regionId);
    if (this.#stopped || this.#queue === undefined) return;
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
      this.#dependencies.log.warn({ err: error, regionId }, "could not look whether to seal");
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

  async #process(job: Job<SealJob, void>): Promise<void> {
    const { sealer, watches } = this.#dependencies;
    if (job.name === SWEEP) {
      for (const regionId of watches.keys()) this.look(regionId);
      return;
    }
    const watch = watches.get(job.data.regionId ?? -1);
    if (watch === undefined) {
      throw new GridrootError("region-unknown", "a seal job is for a region that is not configured here");
    }
    await sealer.sealReady(watch);
  }

  #failed(job: Job<SealJob, void> | undefined, error: Error): void {
    const { log, metrics } = this.#dependencies;
    metrics.sealFailures.inc();
    log.error({ err: error, job: job?.id, attempts: job?.attemptsMade }, "seal job failed");
  }

  #lookAfter(job: Job<SealJob, void>): void {
    if (job.name !== SWEEP && job.data.regionId !== undefined) this.look(job.data.regionId);
  }
}

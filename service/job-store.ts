import {
  type BackendFactory,
  type ConnectionOptions,
  createPostgresBackend,
  type IQueueBackend,
  type Job,
  type JobProgress,
  type JobSchedulerTemplateOptions,
  type JobsOptions,
  type PostgresConnectionOptions,
  type PostgresQueueBackend,
  Queue,
  QueueKeys,
  RedisConnection,
  RedisQueueBackend,
  Worker,
} from "bullmq";
import type { Logger } from "pino";
import { keyPrefix, type RedisAddress, RedisConnections } from "./redis.ts";

/** Where BullMQ keeps its jobs. */
export type JobsBackend =
  | {
      readonly kind: "postgres";
      /** The server itself, past a pooler: BullMQ listens. */
      readonly connectionString: string;
    }
  | ({
      readonly kind: "redis";
      /** What the keys begin with, so that several installations share a server. */
      readonly namespace: string;
    } & RedisAddress);

export interface JobWorkerOptions {
  /** Jobs that run at a time in this process. */
  readonly concurrency: number;
  /** After so long without a sign of life from its worker a job is another's. */
  readonly lockMs: number;
  /** How often that may happen to a job. */
  readonly maxStalledCount: number;
}

/** What a job is about. */
export type JobData = Readonly<Record<string, string | number>>;
export type RunningJob = Job<JobData, void>;

/** Adds jobs; the methods are those of BullMQ's `Queue`. */
export interface JobQueue {
  add(name: string, data: JobData, options: JobsOptions): Promise<unknown>;
  upsertJobScheduler(
    id: string,
    repeat: { readonly every: number },
    template: { readonly name: string; readonly data: JobData; readonly opts: JobSchedulerTemplateOptions },
  ): Promise<unknown>;
  getJobScheduler(id: string): Promise<{ readonly next?: number } | undefined>;
  waitUntilReady(): Promise<void>;
  close(): Promise<void>;
  on(event: "error", listener: (error: Error) => void): unknown;
}

/** Runs jobs; the methods are those of BullMQ's `Worker`. */
export interface JobWorker {
  waitUntilReady(): Promise<void>;
  /** Waits for the jobs that run. */
  close(): Promise<void>;
  on(event: "error", listener: (error: Error) => void): unknown;
  on(event: "completed", listener: (job: RunningJob) => void): unknown;
  on(event: "failed", listener: (job: RunningJob | undefined, error: Error) => void): unknown;
}

/**
 * The jobs of BullMQ on PostgreSQL or on Redis. Both run a job at least once: one whose worker gives no sign of life
 * is another's. Redis may come back without its jobs; whoever needs them adds them anew.
 */
export interface JobStore {
  openQueue(name: string): JobQueue;
  openWorker(name: string, process: (job: RunningJob) => Promise<void>, options: JobWorkerOptions): JobWorker;
  /** Whether the store is known to be away: to add a job would fail. */
  readonly isAway: boolean;
  /** Calls `listener` when the store has gone away and when it is back, perhaps without its jobs. */
  onChange(listener: (isAway: boolean) => void): void;
  /** Cuts the connections that the store opened; whatever of queues and workers still waits for an answer fails. */
  end(): Promise<void>;
}

/** Connections of a queue or worker on PostgreSQL. */
const POSTGRES_CONNECTIONS = 4;
/** How long a worker waits after a failed look for work, and after a failed answer before it tries again. */
const RETRY_MS = 1_000;

/** @throws GridrootError of `RedisConnections.open` */
export async function openJobStore(backend: JobsBackend, dependencies: { log: Logger }): Promise<JobStore> {
  if (backend.kind === "postgres") return postgresJobStore(backend.connectionString);
  return redisJobStore(await RedisConnections.open(backend, dependencies), keyPrefix(backend.namespace));
}

function postgresJobStore(connectionString: string): JobStore {
  const connection = { connectionString, migrate: true, max: POSTGRES_CONNECTIONS };
  return {
    ...queuesAndWorkers<PostgresQueueBackend, PostgresConnectionOptions>(
      { connection },
      createPostgresBackend,
    ),
    isAway: false,
    onChange() {},
    end: () => Promise.resolve(),
  };
}

function redisJobStore(connections: RedisConnections, prefix: string): JobStore {
  const { prompt, patient, blocking } = connections;
  // Only a worker has a blocking connection: it waits for Redis, while whoever adds a job wants to know at once.
  const backend: BackendFactory<RedisQueueBackend> = (name, options, { withBlockingConnection } = {}) => {
    const keys = new QueueKeys(prefix);
    return new RedisQueueBackend(
      new RedisConnection(withBlockingConnection ? patient : prompt, { shared: true, blocking: false }),
      name,
      keys.getKeys(name),
      (type) => keys.toKey(name, type),
      options,
      withBlockingConnection ? new RedisConnection(blocking, { shared: true, blocking: true }) : undefined,
    );
  };
  return {
    ...queuesAndWorkers<RedisQueueBackend, ConnectionOptions>({ connection: patient, prefix }, backend),
    get isAway() {
      return connections.isAway;
    },
    onChange: (listener) => connections.onChange(listener),
    end: () => connections.end(),
  };
}

function queuesAndWorkers<B extends IQueueBackend, C>(
  place: { readonly connection: C; readonly prefix?: string },
  backend: BackendFactory<B, C>,
): Pick<JobStore, "openQueue" | "openWorker"> {
  return {
    openQueue: (name) => new Queue<JobData, void, string, JobData, void, string, B, C>(name, place, backend),
    openWorker: (name, process, { concurrency, lockMs, maxStalledCount }) =>
      new Worker<JobData, void, string, B, JobProgress, C>(
        name,
        process,
        {
          ...place,
          concurrency,
          lockDuration: lockMs,
          stalledInterval: lockMs,
          maxStalledCount,
          runRetryDelay: RETRY_MS,
        },
        backend,
      ),
  };
}

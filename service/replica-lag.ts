import { limitStatements, type Pool, type Queryable } from "./database.ts";

export interface ReplicaLagOptions {
  /** Time between two measurements, ms. */
  readonly everyMs: number;
  /** A server that takes longer to answer counts as away, ms. */
  readonly answerWithinMs: number;
}

/** What the last measurement found. */
export interface ReplicaState {
  /** Whether the replica answered, and is one of this primary. */
  readonly answers: boolean;
  /** Upper bound of how old its data is, ms; `undefined` before it is known. */
  readonly lagMs: number | undefined;
  /** Why it does not answer as it should. */
  readonly reason: string | undefined;
}

interface Sample {
  readonly atMs: number;
  readonly position: bigint;
}

/** Positions in the write-ahead log, in bytes. Whatever a client saw committed lies below the flushed position. */
const PRIMARY = `
  select pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint as position,
         (select system_identifier from pg_control_system()) as cluster`;
const REPLICA = `
  select pg_is_in_recovery() as standby, pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint as position,
         (select system_identifier from pg_control_system()) as cluster`;

/** A replica that lags longer than these reach is late all the same: only the figure grows past the truth. */
const MAX_SAMPLES = 1_000;

/**
 * How old a streaming replica's data may be. Samples of the primary's position with the time of each, by one monotonic
 * clock, this process's: a replica that has replayed up to a sample holds all that was committed at its time. So an
 * idle primary makes no lag, nothing is written for the measurement, and no two machines' clocks are compared.
 */
export class ReplicaLag {
  readonly #options: ReplicaLagOptions;
  readonly #primary: Queryable;
  readonly #replica: Queryable;
  readonly #nowMs: () => number;
  #samples: Sample[] = [];
  #cluster: bigint | undefined;
  #reachedMs: number | undefined;
  #trouble: string | undefined = "not measured yet";
  #timer: NodeJS.Timeout | undefined;
  #measuring: Promise<void> = Promise.resolve();
  #stopped = false;

  /** `nowMs` is a monotonic clock. */
  constructor(
    options: ReplicaLagOptions,
    dependencies: { readonly primary: Pool; readonly replica: Pool; readonly nowMs: () => number },
  ) {
    this.#options = options;
    this.#primary = limitStatements(dependencies.primary, options.answerWithinMs);
    this.#replica = limitStatements(dependencies.replica, options.answerWithinMs);
    this.#nowMs = dependencies.nowMs;
  }

  get state(): ReplicaState {
    return {
      answers: this.#trouble === undefined,
      lagMs: this.#reachedMs === undefined ? undefined : this.#nowMs() - this.#reachedMs,
      reason: this.#trouble,
    };
  }

  /** Measures until `stop`; `onMeasured` is called after each measurement. Resolves after the first, whatever it found. */
  async start(onMeasured: () => void): Promise<void> {
    const measure = async () => {
      await this.#measure();
      onMeasured();
      if (this.#stopped) return;
      this.#timer = setTimeout(() => {
        this.#measuring = measure();
      }, this.#options.everyMs);
    };
    this.#measuring = measure();
    await this.#measuring;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#measuring;
  }

  async #measure(): Promise<void> {
    // Taken before it is asked for: the position is at least that of this instant.
    const atMs = this.#nowMs();
    const [primary, replica] = await Promise.allSettled([
      this.#primary.query<{ position: bigint; cluster: bigint }>(PRIMARY),
      this.#replica.query<{ standby: boolean; position: bigint | null; cluster: bigint }>(REPLICA),
    ]);
    if (primary.status === "fulfilled") {
      const { position, cluster } = primary.value.rows[0]!;
      this.#cluster = cluster;
      this.#samples.push({ atMs, position });
      if (this.#samples.length > MAX_SAMPLES) this.#samples.shift();
    }
    if (replica.status === "rejected") {
      this.#trouble = (replica.reason as Error).message;
      return;
    }
    const { standby, position, cluster } = replica.value.rows[0]!;
    if (!standby || position === null)
      this.#trouble = "is no replica: it does not replay another server's log";
    else if (cluster !== (this.#cluster ?? cluster)) this.#trouble = "is a replica of another server";
    else {
      this.#trouble = undefined;
      this.#reached(position);
    }
  }

  #reached(position: bigint): void {
    const newest = this.#samples.findLastIndex((sample) => sample.position <= position);
    if (newest === -1) return;
    this.#reachedMs = this.#samples[newest]!.atMs;
    this.#samples = this.#samples.slice(newest);
  }
}

import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "pino";
import type { Appender } from "../event-log/event-log.ts";
import { advance, type Claim } from "../ledger/consumer-offsets.ts";
import { inTransaction, type Pool } from "../service/database.ts";
import { GridrootError } from "../service/errors.ts";
import type { FaultPoints } from "../service/faults.ts";
import { outcomeOf, type Slice, type SliceOutcome } from "./recorded-slice.ts";
import type { RecorderMetrics } from "./recorder-metrics.ts";
import type { TimeSeries } from "./time-series.ts";

export interface SeriesFlusherOptions {
  /** A write takes slices until it holds so many points. */
  readonly maxPointsPerWrite: number;
  readonly firstPauseMs: number;
  readonly maxPauseMs: number;
  /** How long an attempt under way may go on after its partitions were revoked. */
  readonly revokedWithinMs: number;
}

export interface SeriesFlusherDependencies {
  readonly pool: Pool;
  readonly timeSeries: TimeSeries;
  readonly deadLetters: Appender;
  readonly log: Logger;
  readonly metrics: RecorderMetrics;
  readonly faults: FaultPoints;
  /** Called after points were written. */
  readonly onWritten: () => void;
}

type Step = "series" | "dead-letters" | "ledger";

/** A slice on its way, and who waits for it. */
interface Waiting {
  readonly slice: Slice;
  readonly claim: Claim;
  readonly signal: AbortSignal;
  readonly resolve: (claim: Claim) => void;
  readonly reject: (error: Error) => void;
}

/**
 * Carries the slices of all partitions to the series: what has come in while one write was under way goes into the
 * next one together. Series first, then dead letters, then all offsets in one ledger transaction, so that a crash
 * in between repeats work and loses none. While a store is away the slices wait and nothing else is read: memory
 * holds one batch for each partition at most.
 */
export class SeriesFlusher {
  readonly #options: SeriesFlusherOptions;
  readonly #dependencies: SeriesFlusherDependencies;
  #queue: Waiting[] = [];
  #running = false;
  /** Code of the failure under way; a failure without one counts as one kind. */
  #failing: string | undefined;

  constructor(options: SeriesFlusherOptions, dependencies: SeriesFlusherDependencies) {
    this.#options = options;
    this.#dependencies = dependencies;
  }

  /**
   * Resolves with the claim that goes on after the slice once its points are durable and its offset is stored.
   * Rejects with `recorder-fenced` where somebody else has taken the partition over, and with `recorder-revoked`
   * after `signal`: at once while nothing is under way, else when the attempt has ended or taken too long.
   */
  submit(slice: Slice, claim: Claim, signal: AbortSignal): Promise<Claim> {
    if (signal.aborted) return Promise.reject(revoked());
    const { promise, resolve, reject } = Promise.withResolvers<Claim>();
    const waiting: Waiting = { slice, claim, signal, resolve, reject };
    const giveUp = () => this.#giveUp(waiting);
    signal.addEventListener("abort", giveUp, { once: true });
    this.#queue.push(waiting);
    if (!this.#running) void this.#run();
    return promise.finally(() => signal.removeEventListener("abort", giveUp));
  }

  #giveUp(waiting: Waiting): void {
    const queued = this.#queue.includes(waiting);
    this.#queue = this.#queue.filter((other) => other !== waiting);
    if (queued) waiting.reject(revoked());
    else setTimeout(() => waiting.reject(revoked()), this.#options.revokedWithinMs).unref();
  }

  async #run(): Promise<void> {
    this.#running = true;
    // Lets the other partitions' slices of this turn join the first write.
    await Promise.resolve();
    while (this.#queue.length > 0) {
      const slices = this.#take();
      try {
        await this.#flush(slices);
      } catch (error) {
        for (const waiting of slices) waiting.reject(error as Error);
      }
    }
    this.#running = false;
  }

  #take(): Waiting[] {
    const taken: Waiting[] = [];
    for (let points = 0; this.#queue.length > 0 && points < this.#options.maxPointsPerWrite;) {
      const waiting = this.#queue.shift()!;
      points += waiting.slice.points.length;
      taken.push(waiting);
    }
    return taken;
  }

  async #flush(slices: readonly Waiting[]): Promise<void> {
    const { timeSeries, deadLetters, metrics, faults, onWritten } = this.#dependencies;
    const stopTimer = metrics.flushSeconds.startTimer();
    const points = slices.flatMap(({ slice }) => slice.points);
    faults.hit("recorder.before-write");
    const refused =
      points.length === 0 ? [] : await this.#persist("series", slices, () => timeSeries.write(points));
    faults.hit("recorder.after-write");
    const outcomes = slices.map(({ slice }) => outcomeOf(slice, refused));
    const letters = outcomes.flatMap((outcome) => outcome.deadLetters);
    if (letters.length > 0) {
      await this.#persist("dead-letters", slices, () => deadLetters.append(letters));
      faults.hit("recorder.after-dead-letters");
    }
    const claims = await this.#persist("ledger", slices, () => this.#advance(slices, outcomes));
    faults.hit("recorder.after-commit");
    stopTimer();
    metrics.readings.inc(points.length - refused.length);
    if (points.length > 0) onWritten();
    for (const [i, waiting] of slices.entries()) this.#answer(waiting, claims[i], outcomes[i]!);
  }

  #answer({ resolve, reject }: Waiting, claim: Claim | undefined, { counts }: SliceOutcome): void {
    if (claim === undefined) {
      reject(
        new GridrootError("recorder-fenced", "another recorder holds the partition", { retryable: true }),
      );
      return;
    }
    const { records } = this.#dependencies.metrics;
    records.inc({ outcome: "written" }, Number(counts.written));
    records.inc({ outcome: "rejected" }, Number(counts.rejected));
    records.inc({ outcome: "other" }, Number(counts.otherKinds));
    resolve(claim);
  }

  /**
   * Offsets and counts of all slices, in one order of rows. A partition that somebody took over stays as it is and
   * holds back no other. A commit with an unknown outcome is tried again and, if it did happen, looks like a
   * take-over: the partition is loaded anew.
   */
  async #advance(
    slices: readonly Waiting[],
    outcomes: readonly SliceOutcome[],
  ): Promise<readonly (Claim | undefined)[]> {
    const order = slices
      .map((_, i) => i)
      .sort((a, b) => comparePartitions(slices[a]!.claim, slices[b]!.claim));
    return await inTransaction(this.#dependencies.pool, async (connection) => {
      const claims: (Claim | undefined)[] = [];
      for (const i of order) {
        const { claim, slice } = slices[i]!;
        // The first step begins at the oldest record that the log holds, which need not be the first it ever had.
        const beganAt = claim.position === undefined ? slice.firstOffset : 0n;
        claims[i] = await advance(connection, claim, slice.position, { ...outcomes[i]!.counts, beganAt });
      }
      this.#dependencies.faults.hit("recorder.before-commit");
      return claims;
    });
  }

  /** Repeats a step until it succeeds, with a pause that doubles, or until no slice is wanted any more. */
  async #persist<T>(step: Step, slices: readonly Waiting[], attempt: () => Promise<T>): Promise<T> {
    const { firstPauseMs, maxPauseMs } = this.#options;
    for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(pauseMs * 2, maxPauseMs)) {
      if (slices.every(({ signal }) => signal.aborted)) throw revoked();
      try {
        const result = await attempt();
        this.#goesOn();
        return result;
      } catch (error) {
        this.#failed(step, error);
      }
      await pauseUnlessAllAborted(slices, pauseMs);
    }
  }

  /**
   * One line of error for each kind of failure. What repeating alone does not cure (a token that was withdrawn, say)
   * raises an alarm of its own; the offset stays all the same, and recording goes on once it is put right.
   */
  #failed(step: Step, error: unknown): void {
    const { log, metrics } = this.#dependencies;
    const isLasting = error instanceof GridrootError && !error.retryable;
    const code = error instanceof GridrootError ? error.code : "other";
    metrics.failures.inc({ step });
    metrics.lastingFailures.set(isLasting ? 1 : 0);
    if (code === this.#failing) log.debug({ err: error, step }, "recording failed again");
    else if (isLasting) log.error({ err: error, step }, "recording waits for an operator");
    else log.error({ err: error, step }, "recording fails and is repeated");
    this.#failing = code;
  }

  #goesOn(): void {
    if (this.#failing === undefined) return;
    this.#failing = undefined;
    this.#dependencies.metrics.lastingFailures.set(0);
    this.#dependencies.log.info("recording goes on");
  }
}

async function pauseUnlessAllAborted(slices: readonly Waiting[], pauseMs: number): Promise<void> {
  const all = new AbortController();
  const check = () => {
    if (slices.every(({ signal }) => signal.aborted)) all.abort();
  };
  for (const { signal } of slices) signal.addEventListener("abort", check);
  check();
  await delay(pauseMs, undefined, { signal: all.signal }).catch(() => {});
  for (const { signal } of slices) signal.removeEventListener("abort", check);
}

function comparePartitions(a: Claim, b: Claim): number {
  return a.topic < b.topic ? -1 : a.topic > b.topic ? 1 : a.partition - b.partition;
}

function revoked(): GridrootError {
  return new GridrootError("recorder-revoked", "the partition was revoked", { retryable: true });
}

import type { Logger } from "pino";
import { Gauge, Histogram, type Registry } from "prom-client";
import type { Appender, EventLog, NewRecord } from "../event-log/event-log.ts";
import { DEAD_LETTER_TOPIC } from "../event-log/topics.ts";
import { GridrootError } from "../service/errors.ts";
import type { FaultPoints } from "../service/faults.ts";
import { pause, within } from "./time-limits.ts";

export interface GroupCommitOptions {
  readonly appendMaxDelayMs: number;
  readonly appendMaxRecords: number;
  readonly appendMaxBytes: number;
  readonly appendTimeoutMs: number;
  readonly logRetryMinMs: number;
  readonly logRetryMaxMs: number;
  readonly stopTimeoutMs: number;
}

/** A record and who waits for it. */
export interface Pending {
  readonly record: NewRecord;
  /** What it counts for in `appendMaxBytes`: value and headers. */
  readonly bytes: number;
  /** Called once: without a fault when the record is durable, with one when that is unknown or false. */
  settle(fault: GridrootError | undefined): void;
}

/**
 * Groups records into appends, one in flight. Whoever submits is settled in the order of submission, after the append
 * that holds its record is durable.
 *
 * When an append fails or does not answer in time, everything that was submitted until then fails, so that nothing
 * later overtakes it; the log then counts as unavailable until it answers again, and submissions fail at once.
 */
export class GroupCommit {
  readonly #options: GroupCommitOptions;
  readonly #eventLog: EventLog;
  readonly #log: Logger;
  readonly #faults: FaultPoints;
  readonly #durationS: Histogram;
  readonly #records: Histogram;
  readonly #availability: Gauge;
  readonly #abort = new AbortController();
  #appender: Appender | undefined;
  #waiting: Pending[] = [];
  #waitingBytes = 0;
  #appending: Promise<void> | undefined;
  #delay: NodeJS.Timeout | undefined;
  #retryMs: number;

  constructor(
    options: GroupCommitOptions,
    dependencies: { eventLog: EventLog; log: Logger; metrics: Registry; faults: FaultPoints },
  ) {
    this.#options = options;
    this.#eventLog = dependencies.eventLog;
    this.#log = dependencies.log;
    this.#faults = dependencies.faults;
    this.#retryMs = options.logRetryMinMs;
    this.#durationS = new Histogram({
      name: "ingest_append_duration_seconds",
      help: "From the call of an append to its answer.",
      buckets: [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5],
      registers: [dependencies.metrics],
    });
    this.#records = new Histogram({
      name: "ingest_append_records",
      help: "Records of one group commit.",
      buckets: [1, 10, 100, 500, 1000, 2500, 5000],
      registers: [dependencies.metrics],
    });
    this.#availability = new Gauge({
      name: "ingest_log_available",
      help: "1 while the event log takes appends, else 0.",
      registers: [dependencies.metrics],
    });
  }

  /** Whether the last append succeeded, or the log has answered since it failed. */
  get available(): boolean {
    return this.#appender !== undefined && !this.#abort.signal.aborted;
  }

  async start(): Promise<void> {
    this.#appender = await this.#eventLog.openAppender();
    this.#availability.set(1);
  }

  submit(pending: Pending): void {
    if (!this.available) {
      pending.settle(unavailable("the event log is not available"));
      return;
    }
    this.#waiting.push(pending);
    this.#waitingBytes += pending.bytes;
    if (this.#appending !== undefined) return;
    if (this.#isFull()) this.#appendNext();
    else this.#delay ??= setTimeout(() => this.#appendNext(), this.#options.appendMaxDelayMs);
  }

  /** Appends what was submitted, within the stop limit; whatever is left then fails, and the stop rejects. */
  async stop(): Promise<void> {
    const endMs = performance.now() + this.#options.stopTimeoutMs;
    this.#appendNext();
    while (this.#appending !== undefined && performance.now() < endMs) {
      await Promise.race([this.#appending, pause(endMs - performance.now(), this.#abort.signal)]);
    }
    this.#abort.abort();
    const appender = this.#appender;
    this.#appender = undefined;
    this.#fail(this.#takeAll(), unavailable("ingest is stopping"));
    if (appender !== undefined) {
      await within(Math.max(1, endMs - performance.now()), "appender-close-timeout", appender.close());
    }
  }

  #isFull(): boolean {
    const { appendMaxRecords, appendMaxBytes } = this.#options;
    return this.#waiting.length >= appendMaxRecords || this.#waitingBytes >= appendMaxBytes;
  }

  #appendNext(): void {
    clearTimeout(this.#delay);
    this.#delay = undefined;
    const appender = this.#appender;
    if (this.#appending !== undefined || appender === undefined || this.#waiting.length === 0) return;
    this.#appending = this.#append(appender, this.#takeGroup()).finally(() => {
      this.#appending = undefined;
      // Those who came meanwhile have waited for this append already.
      this.#appendNext();
    });
  }

  async #append(appender: Appender, group: readonly Pending[]): Promise<void> {
    const stopTimer = this.#durationS.startTimer();
    this.#records.observe(group.length);
    this.#faults.hit("ingest.before-append");
    try {
      const append = appender.append(group.map(({ record }) => record));
      await within(this.#options.appendTimeoutMs, "append-timeout", append);
    } catch (cause) {
      this.#becomeUnavailable(appender, group, cause);
      return;
    } finally {
      stopTimer();
    }
    this.#faults.hit("ingest.after-append");
    this.#retryMs = this.#options.logRetryMinMs;
    for (const pending of group) pending.settle(undefined);
    this.#faults.hit("ingest.after-settle");
  }

  #becomeUnavailable(appender: Appender, group: readonly Pending[], cause: unknown): void {
    this.#log.error({ err: cause, records: group.length + this.#waiting.length }, "event log append failed");
    this.#appender = undefined;
    this.#availability.set(0);
    this.#fail([...group, ...this.#takeAll()], unavailable("the event log did not take the append", cause));
    // It may be stuck in its append for as long as the log is; its outcome is of no interest any more.
    appender.close().catch(() => {});
    void this.#recover();
  }

  /** Tries the log until it answers. Appends, not this, tell whether it can write: their failures stretch the pause. */
  async #recover(): Promise<void> {
    const { signal } = this.#abort;
    while (!signal.aborted) {
      await pause(this.#retryMs, signal);
      this.#retryMs = Math.min(this.#retryMs * 2, this.#options.logRetryMaxMs);
      if (signal.aborted) return;
      try {
        await this.#eventLog.bounds({ topic: DEAD_LETTER_TOPIC, partition: 0 });
        const appender = await this.#eventLog.openAppender();
        if (signal.aborted) return await appender.close();
        this.#appender = appender;
        this.#availability.set(1);
        this.#log.info("event log answers again");
        return;
      } catch (error) {
        this.#log.warn({ err: error, retryMs: this.#retryMs }, "event log is still unavailable");
      }
    }
  }

  #takeGroup(): Pending[] {
    let bytes = 0;
    let count = 0;
    for (const pending of this.#waiting) {
      bytes += pending.bytes;
      if (count === this.#options.appendMaxRecords || (count > 0 && bytes > this.#options.appendMaxBytes))
        break;
      count += 1;
    }
    return this.#take(count);
  }

  #takeAll(): Pending[] {
    return this.#take(this.#waiting.length);
  }

  #take(count: number): Pending[] {
    const taken = this.#waiting.slice(0, count);
    this.#waiting = this.#waiting.slice(count);
    this.#waitingBytes -= taken.reduce((sum, { bytes }) => sum + bytes, 0);
    return taken;
  }

  #fail(group: readonly Pending[], fault: GridrootError): void {
    for (const pending of group) pending.settle(fault);
  }
}

function unavailable(message: string, cause?: unknown): GridrootError {
  return new GridrootError("log-unavailable", message, { retryable: true, cause });
}

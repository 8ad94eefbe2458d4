import type { Logger } from "pino";
import { storedOffsets } from "../ledger/consumer-offsets.ts";
import type { Clock } from "../service/clock.ts";
import type { Pool } from "../service/database.ts";
import type { Service } from "../service/lifecycle.ts";
import type { EventLog, TopicSpec } from "./event-log.ts";

/** A topic and who must have consumed a record of it before it may go. */
export interface RetainedTopic extends TopicSpec {
  /** Names in the ledger's `consumer_offset`. One that has stored no offset yet has consumed nothing. */
  readonly consumers: readonly string[];
}

export interface RetentionOptions {
  readonly topics: readonly RetainedTopic[];
  /** Age by append time up to which records stay though everybody has consumed them, ms. */
  readonly keepMs: number;
  /** Pause between sweeps, ms. */
  readonly everyMs: number;
}

export interface RetentionDependencies {
  readonly eventLog: EventLog;
  /** The ledger's. */
  readonly ledger: Pool;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Trims the log now and then. Safe to run in several processes: trimming twice changes nothing. */
export class Retention implements Service {
  readonly name = "event-log-retention";
  readonly #options: RetentionOptions;
  readonly #dependencies: RetentionDependencies;
  #timer: NodeJS.Timeout | undefined;
  #sweeping: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(options: RetentionOptions, dependencies: RetentionDependencies) {
    this.#options = options;
    this.#dependencies = dependencies;
  }

  start(): Promise<void> {
    this.#schedule();
    return Promise.resolve();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#sweeping;
  }

  /** Trims every partition below the lowest of: each consumer's stored offset, the first record young enough. */
  async sweep(): Promise<void> {
    const { eventLog, ledger, clock } = this.#dependencies;
    const olderThanMs = clock.nowMs() - this.#options.keepMs;
    for (const { topic, partitions, consumers } of this.#options.topics) {
      const stored = await storedOffsets(ledger, topic);
      for (let partition = 0; partition < partitions && !this.#stopped; partition += 1) {
        const offsets = stored.filter((row) => row.partition === partition);
        const missing = consumers.some((name) => !offsets.some(({ consumer }) => consumer === name));
        if (missing) continue;
        const young = await eventLog.offsetAfter({ topic, partition }, olderThanMs);
        const below = offsets.reduce((low, { nextOffset }) => (nextOffset < low ? nextOffset : low), young);
        if (below > 0n) await eventLog.trim({ topic, partition }, below);
      }
    }
  }

  #schedule(): void {
    if (this.#stopped) return;
    this.#timer = setTimeout(() => {
      this.#sweeping = this.sweep()
        .catch((error: unknown) =>
          this.#dependencies.log.warn({ err: error }, "event log not trimmed, next time"),
        )
        .finally(() => this.#schedule());
    }, this.#options.everyMs);
  }
}

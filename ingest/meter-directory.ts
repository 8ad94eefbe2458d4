import { findMeter, type Meter } from "../ledger/meters.ts";
import type { Queryable } from "../service/database.ts";

interface Remembered {
  readonly meter: Meter | undefined;
  readonly untilMs: number;
}

/** How long an unknown meter is believed unknown: short, for its commissioning may be under way. */
const UNKNOWN_TTL_MS = 2000;

/**
 * The registry as ingest asks it: remembered for a while, up to a number of meters, the least recently used forgotten
 * first. Concurrent questions for one meter share one statement, so that a reconnect storm stays affordable.
 */
export class MeterDirectory {
  readonly #maxEntries: number;
  readonly #ttlMs: number;
  readonly #db: Queryable;
  readonly #remembered = new Map<string, Remembered>();
  readonly #asking = new Map<string, Promise<Meter | undefined>>();

  constructor(options: { maxEntries: number; ttlMs: number }, dependencies: { db: Queryable }) {
    this.#maxEntries = options.maxEntries;
    this.#ttlMs = options.ttlMs;
    this.#db = dependencies.db;
  }

  /** The meter of that id, `undefined` where the registry has none. Rejects while the ledger is away. */
  async find(meterId: string): Promise<Meter | undefined> {
    const remembered = this.#remembered.get(meterId);
    if (remembered !== undefined && performance.now() < remembered.untilMs) {
      this.#remembered.delete(meterId);
      this.#remembered.set(meterId, remembered);
      return remembered.meter;
    }
    return this.#asking.get(meterId) ?? this.#ask(meterId);
  }

  /** Forgets one meter, or all. What is being asked meanwhile is not remembered: it may be the old answer. */
  forget(meterId?: string): void {
    if (meterId === undefined) {
      this.#remembered.clear();
      this.#asking.clear();
    } else {
      this.#remembered.delete(meterId);
      this.#asking.delete(meterId);
    }
  }

  #ask(meterId: string): Promise<Meter | undefined> {
    const asking = findMeter(this.#db, meterId).then(
      (meter) => {
        if (this.#asking.get(meterId) === asking) {
          this.#asking.delete(meterId);
          this.#remember(meterId, meter);
        }
        return meter;
      },
      (cause: unknown) => {
        if (this.#asking.get(meterId) === asking) this.#asking.delete(meterId);
        throw cause;
      },
    );
    this.#asking.set(meterId, asking);
    return asking;
  }

  #remember(meterId: string, meter: Meter | undefined): void {
    const ttlMs = meter === undefined ? Math.min(UNKNOWN_TTL_MS, this.#ttlMs) : this.#ttlMs;
    this.#remembered.delete(meterId);
    this.#remembered.set(meterId, { meter, untilMs: performance.now() + ttlMs });
    if (this.#remembered.size > this.#maxEntries) {
      const oldest = this.#remembered.keys().next();
      if (oldest.done !== true) this.#remembered.delete(oldest.value);
    }
  }
}

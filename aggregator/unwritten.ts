import type { LogRecord, Position, RecordBatch } from "../event-log/event-log.ts";
import type { Claim } from "../ledger/consumer-offsets.ts";
import type { PartitionMemory } from "./partition-memory.ts";
import type { RegionWatch } from "./region-watch.ts";

/** Rows of their own that a flush may have to write, beside states: one record can bring 256 of them. */
const MAX_FINDINGS = 10_000;

/**
 * How far a partition's memory is ahead of the ledger: what was taken from the log since the last flush, and who
 * waits for it to be written.
 */
export class Unwritten {
  readonly #flushEveryRecords: number;
  readonly #memory: PartitionMemory;
  readonly #watch: RegionWatch;
  #claim: Claim;
  /** The last record applied, and where it was delivered. */
  #applied: { readonly batch: RecordBatch; readonly record: LogRecord } | undefined;
  #records = 0;
  #completeWritten = 0;
  #blockedEnd: number | undefined;
  #blockedWritten: number | undefined;

  constructor(flushEveryRecords: number, memory: PartitionMemory, watch: RegionWatch, claim: Claim) {
    this.#flushEveryRecords = flushEveryRecords;
    this.#memory = memory;
    this.#watch = watch;
    this.#claim = claim;
  }

  /** The partition's hold as of the last flush. */
  get claim(): Claim {
    return this.#claim;
  }

  /** Where memory stands. */
  get position(): Position | undefined {
    return this.#applied === undefined
      ? this.#claim.position
      : this.#applied.batch.positionAfter(this.#applied.record);
  }

  /** The interval of the record before which the partition pauses. */
  get blockedEnd(): number | undefined {
    return this.#blockedEnd;
  }

  /** Notes a record that is in memory now. */
  applied(batch: RecordBatch, record: LogRecord): void {
    this.#applied = { batch, record };
    this.#records += 1;
  }

  /** Notes before which interval's record the partition pauses, if it does. */
  blockedBefore(end: number | undefined): void {
    this.#blockedEnd = end;
  }

  /** Whether a flush would write anything. */
  exists(): boolean {
    return this.#records > 0 || this.#newlyBlocked();
  }

  /** Whether somebody waits for it, a seal or the registry, or it is as much as memory should hold. */
  isDue(): boolean {
    if (!this.exists()) return false;
    const { records, quarantined, late } = this.#memory.changes;
    if (records.length > 0 || this.#newlyBlocked()) return true;
    if (this.#records >= this.#flushEveryRecords) return true;
    if (quarantined.length + late.length >= MAX_FINDINGS) return true;
    if ((this.#memory.completeUntil() ?? 0) > this.#completeWritten) return true;
    const stored = this.#claim.position?.nextOffset ?? 0n;
    const reached = this.position?.nextOffset ?? 0n;
    return this.#watch.barrierBetween(this.#claim.partition, stored, reached);
  }

  /** Everything was written under `claim`. */
  written(claim: Claim): void {
    this.#claim = claim;
    this.#records = 0;
    this.#completeWritten = this.#memory.completeUntil() ?? 0;
    this.#blockedWritten = this.#blockedEnd;
  }

  #newlyBlocked(): boolean {
    return this.#blockedEnd !== undefined && this.#blockedEnd !== this.#blockedWritten;
  }
}

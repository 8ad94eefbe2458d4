import { applyReading, type ReadingOutcome } from "../domain/metering/apply-reading.ts";
import { applyRecord, type RefusalReason } from "../domain/metering/apply-record.ts";
import type { Reading } from "../domain/metering/reading.ts";
import type { RegistryRecord } from "../domain/metering/registry-records.ts";
import {
  creditWh,
  dropBefore,
  expectation,
  type LogPlace,
  type Point,
  type ServicePoint,
  SILENT_INTERVALS,
} from "../domain/metering/service-point.ts";
import { partitionOf } from "../event-log/event-log.ts";
import type { Birth, ProjectedRecord } from "../ledger/registry.ts";
import type { PartitionProgress, ReadingCounts } from "../ledger/service-point-states.ts";
import type { QuarantinedReading } from "../ledger/quarantine.ts";
import type { LateReading } from "./late-readings.ts";

/** Boundaries that may be open at a time; the record that would open one more waits. */
export const MAX_OPEN_BOUNDARIES = 4;

/** Progress is told this far ahead: beyond, every service point of today counts as silent. */
const BOUNDARIES_TOLD = MAX_OPEN_BOUNDARIES + SILENT_INTERVALS + 1;

export interface PartitionIdentity {
  readonly regionId: number;
  readonly region: string;
  readonly topic: string;
  readonly partition: number;
  readonly partitionsPerRegion: number;
  readonly intervalLengthS: number;
}

interface Entry {
  readonly state: ServicePoint;
  /** The points as they lie in the ledger. */
  stored: readonly Point[];
}

/** What has changed since the last flush, besides the states. */
export interface Changes {
  readonly records: ProjectedRecord[];
  readonly births: Map<string, Birth>;
  readonly quarantined: QuarantinedReading[];
  readonly flagged: Set<string>;
  /** Readings of intervals that were sealed without them. */
  readonly late: LateReading[];
  readonly counts: ReadingCounts;
}

/**
 * Record ids and meter ids that the whole registry knew when it was asked, of those that a batch of records mentions.
 * The ids of records that are applied since then are added.
 */
export interface KnownIds {
  readonly recordIds: Set<string>;
  readonly meterIds: ReadonlySet<string>;
}

/**
 * The states of one partition's service points, in memory, and what has changed since they were written. Everything
 * here is synchronous and does no I/O.
 */
export class PartitionMemory {
  readonly #identity: PartitionIdentity;
  readonly #entries = new Map<string, Entry>();
  readonly #byMeter = new Map<string, Entry>();
  readonly #dirty = new Set<Entry>();
  #sealedUntil: number | undefined;
  #changes = noChanges();

  constructor(identity: PartitionIdentity, states: readonly ServicePoint[], sealedUntil: number | undefined) {
    this.#identity = identity;
    this.#sealedUntil = sealedUntil;
    for (const state of states) this.#add(state, [...state.points]);
    if (sealedUntil !== undefined) this.seal(sealedUntil);
  }

  /** End of the last interval known to be sealed. */
  get sealedUntil(): number | undefined {
    return this.#sealedUntil;
  }

  get changes(): Changes {
    return this.#changes;
  }

  get servicePoints(): number {
    return this.#entries.size;
  }

  /** States that differ from the ledger. */
  dirtyStates(): readonly ServicePoint[] {
    return [...this.#dirty].map((entry) => entry.state);
  }

  applyReadings(
    readings: readonly Reading[],
    offset: bigint,
    servicePoint: string | undefined,
  ): readonly ReadingOutcome[] {
    return readings.map((reading, index) => {
      // A meter that no record has brought yet is looked for where ingest, or its sender, says that it is.
      const entry = this.#byMeter.get(reading.meterId) ?? this.#entries.get(servicePoint ?? "");
      const place = { offset, index };
      const outcome: ReadingOutcome =
        entry === undefined
          ? { kind: "quarantined", reason: "meter-unknown" }
          : applyReading(entry.state, reading, place, this.#identity.intervalLengthS);
      this.#changes.counts.readings += 1;
      this.#note(entry, reading, place, outcome);
      return outcome;
    });
  }

  /**
   * Applies a registry record, unless its own content refuses it already; why it was refused, or `undefined`. A
   * repeated record does nothing.
   */
  applyRegistryRecord(
    record: RegistryRecord,
    offset: bigint,
    known: KnownIds,
    refusedAlready?: RefusalReason,
  ): RefusalReason | undefined {
    if (known.recordIds.has(record.id)) return undefined;
    known.recordIds.add(record.id);
    const refused = refusedAlready ?? this.#misplaced(record, known) ?? this.#applyToServicePoint(record);
    this.#changes.records.push({ record, offset, refused });
    return refused;
  }

  keepBirth(birth: Birth): void {
    this.#changes.births.set(birth.meterId, birth);
  }

  /**
   * Learns that everything up to `end` is sealed. Points that came after the last flush turned out late: the seal
   * read the states without them.
   */
  seal(end: number): void {
    const from = this.#sealedUntil ?? 0;
    for (const { state, stored } of this.#dirty) {
      for (const point of state.points) {
        const missed = point.t > from && point.t <= end && !stored.includes(point);
        if (missed) this.#changes.late.push(lateReading(state, point.segment, point, creditWh(point)));
      }
    }
    for (const { state } of this.#entries.values()) dropBefore(state, end);
    this.#sealedUntil = end;
  }

  /** What a flush tells the sealer. */
  progress(blockedEnd: number | undefined): PartitionProgress {
    const { partition, intervalLengthS } = this.#identity;
    const sealedUntil = this.#sealedUntil;
    let inService = 0;
    for (const { state } of this.#entries.values()) {
      if (state.segments.at(-1)!.closing === undefined) inService += 1;
    }
    if (sealedUntil === undefined) {
      return { partition, firstEnd: undefined, counting: [], waiting: [], inService, blockedEnd };
    }
    const ends = Array.from({ length: BOUNDARIES_TOLD }, (_, i) => sealedUntil + (i + 1) * intervalLengthS);
    const told = ends.map((end) => this.#expected(end));
    return {
      partition,
      firstEnd: ends[0],
      counting: told.map(({ counting }) => counting),
      waiting: told.map(({ waiting }) => waiting),
      inService,
      blockedEnd,
    };
  }

  /** The last of the boundaries from the next one on at which no service point is awaited; `undefined` for none. */
  completeUntil(): number | undefined {
    if (this.#sealedUntil === undefined) return undefined;
    let complete: number | undefined;
    for (let i = 1; i <= MAX_OPEN_BOUNDARIES; i += 1) {
      const end = this.#sealedUntil + i * this.#identity.intervalLengthS;
      const { counting, waiting } = this.#expected(end);
      if (counting === 0 || waiting > 0) break;
      complete = end;
    }
    return complete;
  }

  /** Everything was written. */
  flushed(): void {
    for (const entry of this.#dirty) entry.stored = [...entry.state.points];
    this.#dirty.clear();
    this.#changes = noChanges();
  }

  #expected(end: number): { counting: number; waiting: number } {
    let [counting, waiting] = [0, 0];
    for (const { state } of this.#entries.values()) {
      const expected = expectation(state, end, this.#identity.intervalLengthS);
      if (expected !== "not-counting") counting += 1;
      if (expected === "waiting") waiting += 1;
    }
    return { counting, waiting };
  }

  #misplaced(record: RegistryRecord, known: KnownIds): RefusalReason | undefined {
    const { region, partition, partitionsPerRegion } = this.#identity;
    if (record.type === "commission" && record.region !== region) return "wrong-region";
    if (partitionOf(record.servicePoint, partitionsPerRegion) !== partition) return "wrong-partition";
    if (record.type !== "commission" && record.type !== "swap") return undefined;
    const { meterId } = record.device;
    return known.meterIds.has(meterId) || this.#byMeter.has(meterId) ? "meter-exists" : undefined;
  }

  #applyToServicePoint(record: RegistryRecord): RefusalReason | undefined {
    const known = this.#entries.get(record.servicePoint);
    const outcome = applyRecord(known?.state, record, this.#identity.intervalLengthS);
    if (outcome.kind === "refused") return outcome.reason;
    const entry = known ?? this.#add(outcome.state, []);
    if (record.type === "swap") this.#byMeter.set(record.device.meterId, entry);
    this.#dirty.add(entry);
    const { closing } = outcome;
    if (closing !== undefined) this.#lateIfSealed(entry, closing.segment, closing, creditWh(closing));
    for (const { reading, outcome: released } of outcome.released) {
      this.#note(entry, reading, reading.place, released);
    }
    return undefined;
  }

  #add(state: ServicePoint, stored: readonly Point[]): Entry {
    const entry: Entry = { state, stored };
    this.#entries.set(state.servicePoint, entry);
    for (const { meterId } of state.segments) this.#byMeter.set(meterId, entry);
    return entry;
  }

  #note(
    entry: Entry | undefined,
    reading: Omit<Reading, "status">,
    place: LogPlace,
    outcome: ReadingOutcome,
  ): void {
    const { counts, quarantined, flagged } = this.#changes;
    counts[COUNTED_AS[outcome.kind]] += 1;
    if (entry !== undefined && outcome.kind !== "duplicate") this.#dirty.add(entry);
    if (outcome.kind === "quarantined") {
      const { topic, partition } = this.#identity;
      const { meterId, epoch, seq, t } = reading;
      quarantined.push({ topic, partition, ...place, meterId, epoch, seq, t, reason: outcome.reason });
      if (outcome.reason === "equivocation") flagged.add(meterId);
    }
    if (entry !== undefined && outcome.kind === "accepted") {
      this.#lateIfSealed(entry, reading, reading, outcome.creditWh);
    }
  }

  #lateIfSealed(
    { state }: Entry,
    source: { readonly meterId: string; readonly epoch: number },
    at: { readonly t: number; readonly seq: number },
    creditWh: LateReading["creditWh"],
  ): void {
    if (this.#sealedUntil === undefined || at.t > this.#sealedUntil) return;
    this.#changes.late.push(lateReading(state, source, at, creditWh));
    dropBefore(state, this.#sealedUntil);
  }
}

const COUNTED_AS = {
  accepted: "accepted",
  stale: "stale",
  duplicate: "duplicates",
  waiting: "waiting",
  quarantined: "quarantined",
} as const satisfies Record<ReadingOutcome["kind"], keyof ReadingCounts>;

function noChanges(): Changes {
  return {
    records: [],
    births: new Map(),
    quarantined: [],
    flagged: new Set(),
    late: [],
    counts: { readings: 0, accepted: 0, stale: 0, duplicates: 0, waiting: 0, quarantined: 0 },
  };
}

function lateReading(
  { servicePoint, account }: ServicePoint,
  { meterId, epoch }: { readonly meterId: string; readonly epoch: number },
  { t, seq }: { readonly t: number; readonly seq: number },
  creditWh: LateReading["creditWh"],
): LateReading {
  return { servicePoint, account, meterId, epoch, seq, t, creditWh };
}

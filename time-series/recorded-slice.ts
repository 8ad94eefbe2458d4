import { decodeReadings } from "../domain/metering/codec.ts";
import type { LogRecord, NewRecord, Position, RecordBatch } from "../event-log/event-log.ts";
import { DEAD_LETTER_TOPIC, INGEST_HEADERS, KIND_HEADER } from "../event-log/topics.ts";
import type { RecordCounts } from "../ledger/consumer-offsets.ts";
import type { RefusedPoint, SeriesPoint } from "./time-series.ts";

/** Reason of a dead letter whose readings the series refuses for good; its detail is the store's reason. */
export const SERIES_REFUSED = "series-refused";

/** A record as the recorder sees it. */
type SeenRecord =
  | { readonly kind: "readings"; readonly record: LogRecord; readonly points: readonly SeriesPoint[] }
  | {
      readonly kind: "unreadable";
      readonly record: LogRecord;
      readonly reason: string;
      readonly detail: string;
    }
  | { readonly kind: "other" };

/** Consecutive records of one partition that are written and passed together. */
export interface Slice {
  readonly records: readonly SeenRecord[];
  readonly points: readonly SeriesPoint[];
  /** Offset of the first record. */
  readonly firstOffset: bigint;
  /** Where the partition stands once the slice is passed. */
  readonly position: Position;
}

/** What becomes of a slice's records when the store has answered. */
export interface SliceOutcome {
  readonly counts: RecordCounts;
  readonly deadLetters: readonly NewRecord[];
}

/** Cuts a batch into slices of at most `maxPoints` points, one record at least. */
export function* slicesOf(batch: RecordBatch, region: string, maxPoints: number): Generator<Slice> {
  let records: SeenRecord[] = [];
  let points: SeriesPoint[] = [];
  let first: LogRecord | undefined;
  let last: LogRecord | undefined;
  for (const record of batch.records) {
    const seen = see(record, region);
    const more = seen.kind === "readings" ? seen.points : [];
    if (first !== undefined && last !== undefined && points.length + more.length > maxPoints) {
      yield { records, points, firstOffset: first.offset, position: batch.positionAfter(last) };
      [records, points, first] = [[], [], undefined];
    }
    first ??= record;
    records.push(seen);
    points.push(...more);
    last = record;
  }
  if (first !== undefined && last !== undefined)
    yield { records, points, firstOffset: first.offset, position: batch.positionAfter(last) };
}

function see(record: LogRecord, region: string): SeenRecord {
  if (record.headers[KIND_HEADER] !== "rd") return { kind: "other" };
  const decoded = decodeReadings(record.key, record.value);
  if (!decoded.ok) return { kind: "unreadable", record, reason: decoded.reason, detail: decoded.detail };
  const points = decoded.readings.map(({ unknown: _kept, ...reading }) => ({ region, ...reading }));
  return { kind: "readings", record, points };
}

/**
 * Counts each record once: written where the series holds all its readings, rejected where one of them could not be
 * read or stored (such a record becomes a dead letter as a whole), other kinds.
 */
export function outcomeOf(slice: Slice, refused: readonly RefusedPoint[]): SliceOutcome {
  const reasons = new Map(refused.map(({ point, reason }) => [keyOf(point), reason]));
  const deadLetters: NewRecord[] = [];
  let [written, otherKinds] = [0n, 0n];
  for (const seen of slice.records) {
    if (seen.kind === "other") {
      otherKinds += 1n;
      continue;
    }
    if (seen.kind === "unreadable") {
      deadLetters.push(deadLetter(seen.record, seen.reason, seen.detail));
      continue;
    }
    const reason =
      reasons.size === 0
        ? undefined
        : seen.points.map((point) => reasons.get(keyOf(point))).find((found) => found !== undefined);
    if (reason === undefined) written += 1n;
    else deadLetters.push(deadLetter(seen.record, SERIES_REFUSED, reason));
  }
  return { counts: { written, rejected: BigInt(deadLetters.length), otherKinds }, deadLetters };
}

function keyOf({ meterId, epoch, t, seq }: SeriesPoint): string {
  return `${meterId} ${epoch} ${t} ${seq}`;
}

function deadLetter(record: LogRecord, reason: string, detail: string): NewRecord {
  return {
    topic: DEAD_LETTER_TOPIC,
    partition: 0,
    key: record.key,
    headers: {
      ...record.headers,
      [INGEST_HEADERS.client]: record.key,
      [INGEST_HEADERS.reason]: reason,
      [INGEST_HEADERS.detail]: detail,
    },
    value: record.value,
  };
}

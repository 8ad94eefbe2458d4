import type { Hex } from "../settlement/settlement.ts";
import { intervalEnd } from "./intervals.ts";
import type { Reading } from "./reading.ts";
import type { RegisterLimits } from "./registers.ts";
import type { Registers } from "./registry-records.ts";
import { type Wh, wh } from "./units.ts";

/**
 * The state of a service point: what its meters' registers say about energy exported since it was commissioned.
 * Credit is kept per service point, not per meter, because meters are swapped.
 */
export interface ServicePoint {
  readonly servicePoint: string;
  /** Who is credited: an EVM address, lower case. */
  readonly account: Hex;
  /** The register epochs of its meters, in order; all but the last are closed. At most `MAX_SEGMENTS`. */
  readonly segments: Segment[];
  /** By `t`: the last accepted reading of each interval. What lies before the anchor is dropped by `dropBefore`. */
  readonly points: Point[];
  /** The last `MAX_RECENT` readings seen, whatever became of them. */
  readonly recent: RecentReading[];
  /** Readings of epochs that no record has opened yet. At most `MAX_WAITING`. */
  waiting: WaitingReading[];
}

/** One register epoch of one meter. Registers are comparable only within it. */
export interface Segment extends RegisterLimits {
  readonly meterId: string;
  readonly epoch: number;
  /** Unix seconds. */
  readonly openedAt: number;
  readonly initial: Registers;
  /** The service point's credit when it opened. */
  readonly baseWh: Wh;
  /** When it closed, and its unwrapped registers then. */
  closing: { readonly at: number; readonly final: Registers } | undefined;
}

/** An accepted reading with its registers unwrapped, or the closing of a segment. */
export interface Point extends Registers {
  readonly segment: Segment;
  readonly t: number;
  /** `RECORD_SEQ` where a registry record closed the segment. */
  readonly seq: number;
}

/** Identity and content of a reading, the content as two 32-bit hashes. */
export interface RecentReading {
  readonly meterId: string;
  readonly epoch: number;
  readonly seq: number;
  readonly contentHash: readonly [number, number];
}

/** Where a reading lies in its partition: the record's offset and the position in the record's array. */
export interface LogPlace {
  readonly offset: bigint;
  readonly index: number;
}

/** What is kept of a reading until its epoch opens. */
export interface WaitingReading extends Registers {
  readonly meterId: string;
  readonly epoch: number;
  readonly seq: number;
  readonly t: number;
  readonly place: LogPlace;
}

/** Older closed epochs are forgotten; their late readings are quarantined. */
export const MAX_SEGMENTS = 8;
export const MAX_RECENT = 16;
export const MAX_WAITING = 32;
/** How many epochs ahead of the open one a reading may wait. */
export const MAX_EPOCHS_AHEAD = 2;
/** A service point that said nothing for this many intervals is not waited for, until it speaks. */
export const SILENT_INTERVALS = 4;
/** Stands in a point's `seq` for a registry record. No reading has it. */
export const RECORD_SEQ = Number.MAX_SAFE_INTEGER;

/** C(t) at a point: closed epochs' energy and that of its own epoch so far. Export register only. */
export function creditWh(point: Point): Wh {
  return wh(point.segment.baseWh + point.exportWh - point.segment.initial.exportWh);
}

/** The point that gives the boundary value C(end): the last with t <= end. `undefined` before the first. */
export function boundaryPoint(state: ServicePoint, end: number): Point | undefined {
  return state.points.findLast((point) => point.t <= end);
}

/** Forgets points that no open boundary needs: all before the last one with t <= `sealedUntil`, the anchor. */
export function dropBefore(state: ServicePoint, sealedUntil: number): void {
  const anchor = state.points.findLastIndex((point) => point.t <= sealedUntil);
  if (anchor > 0) state.points.splice(0, anchor);
}

/** Whether a seal of the interval has to wait for this service point, and whether it still does. */
export function expectation(
  state: ServicePoint,
  end: number,
  lengthS: number,
): "not-counting" | "waiting" | "complete" {
  const { segments, points } = state;
  const last = segments.at(-1)!;
  const spokeAt = points.at(-1)?.t ?? last.openedAt;
  const retiredBefore = last.closing !== undefined && last.closing.at < end;
  if (segments[0]!.openedAt > end - lengthS || retiredBefore) return "not-counting";
  if (spokeAt >= end && points.length > 0) return "complete";
  return spokeAt <= end - (SILENT_INTERVALS + 1) * lengthS ? "not-counting" : "waiting";
}

/**
 * Puts a point in its place: of an interval's points only the last counts. Of two at the same instant the one with
 * the lower (epoch, seq) counts, a record before any reading; but a value that was counted is never lowered.
 */
export function placePoint(state: ServicePoint, point: Point, lengthS: number): void {
  const { points } = state;
  let at = points.length;
  while (at > 0 && points[at - 1]!.t >= point.t) at -= 1;
  const next = points[at];
  if (next?.t === point.t) {
    if (countsBefore(point, next) && creditWh(point) >= creditWh(next)) points[at] = point;
    return;
  }
  const end = intervalEnd(point.t, lengthS);
  if (next !== undefined && intervalEnd(next.t, lengthS) === end) return;
  const previous = points[at - 1];
  const replaces = previous !== undefined && intervalEnd(previous.t, lengthS) === end;
  points.splice(replaces ? at - 1 : at, replaces ? 1 : 0, point);
}

function countsBefore(a: Point, b: Point): boolean {
  if (a.seq === RECORD_SEQ || b.seq === RECORD_SEQ) return a.seq === RECORD_SEQ;
  return a.segment.epoch !== b.segment.epoch ? a.segment.epoch < b.segment.epoch : a.seq < b.seq;
}

/** Two 32-bit hashes of everything a reading says, in whatever order its fields came. */
export function contentHash(reading: Reading): readonly [number, number] {
  const unknown = reading.unknown && Object.entries(reading.unknown).sort(([a], [b]) => (a < b ? -1 : 1));
  const text = [
    reading.t,
    reading.importWh,
    reading.exportWh,
    reading.powerW ?? "",
    reading.voltageDv ?? "",
    reading.frequencyMhz ?? "",
    reading.status,
    unknown === undefined ? "" : JSON.stringify(unknown),
  ].join("|");
  // Two FNV-like streams with different odd multipliers, mixed at the end (after cyrb53).
  let a = 0xdeadbeef;
  let b = 0x41c6ce57;
  for (let i = 0; i < text.length; i += 1) {
    const code = text.charCodeAt(i);
    a = Math.imul(a ^ code, 2654435761);
    b = Math.imul(b ^ code, 1597334677);
  }
  a = Math.imul(a ^ (a >>> 16), 2246822507) ^ Math.imul(b ^ (b >>> 13), 3266489909);
  b = Math.imul(b ^ (b >>> 16), 2246822507) ^ Math.imul(a ^ (a >>> 13), 3266489909);
  return [a >>> 0, b >>> 0];
}

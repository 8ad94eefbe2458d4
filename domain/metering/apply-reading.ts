import type { Reading } from "./reading.ts";
import { type RegisterFault, type RegisterPoint, unwrapRegister } from "./registers.ts";
import type { Registers } from "./registry-records.ts";
import {
  contentHash,
  creditWh,
  type LogPlace,
  MAX_EPOCHS_AHEAD,
  MAX_RECENT,
  MAX_WAITING,
  placePoint,
  type Point,
  type Segment,
  type ServicePoint,
  type WaitingReading,
} from "./service-point.ts";
import type { Wh } from "./units.ts";

/** Why validation set a reading aside. */
export type QuarantineReason =
  | RegisterFault
  | "equivocation"
  | "epoch-unknown"
  | "epoch-too-far-ahead"
  | "too-many-waiting"
  | "before-epoch-start"
  | "after-epoch-end"
  | "meter-unknown";

/** What became of a reading. */
export type ReadingOutcome =
  /** It fits; `creditWh` is C(t) there. Whether it moved a boundary value depends on its neighbours. */
  | { readonly kind: "accepted"; readonly creditWh: Wh }
  /** Another reading of the same instant, such as the same snapshot under a new seq: it says nothing new. */
  | { readonly kind: "stale" }
  /** The same reading again. */
  | { readonly kind: "duplicate" }
  /** Its epoch has not opened yet. */
  | { readonly kind: "waiting" }
  | { readonly kind: "quarantined"; readonly reason: QuarantineReason };

/**
 * Applies a reading to the service point of its meter. A function of the readings and records applied before, in
 * the log's order, and of nothing else. Applying a reading again changes nothing.
 */
export function applyReading(
  state: ServicePoint,
  reading: Reading,
  place: LogPlace,
  lengthS: number,
): ReadingOutcome {
  const known = recognise(state, reading);
  if (known !== undefined) return known;
  const { meterId, epoch, seq, t, importWh, exportWh } = reading;
  const waiting = { meterId, epoch, seq, t, importWh, exportWh, place };
  const segment = findSegment(state, meterId, epoch);
  if (segment !== undefined) return count(state, segment, waiting, lengthS);
  const refused = mayWait(state, meterId, epoch);
  if (refused !== undefined) return { kind: "quarantined", reason: refused };
  if (state.waiting.length >= MAX_WAITING) return { kind: "quarantined", reason: "too-many-waiting" };
  state.waiting.push(waiting);
  return { kind: "waiting" };
}

/** A reading that waited, and what became of it. */
export interface ReleasedReading {
  readonly reading: WaitingReading;
  readonly outcome: ReadingOutcome;
}

/** After a record has opened or closed an epoch: applies the readings that waited for it, in the order they came. */
export function releaseWaiting(state: ServicePoint, lengthS: number): readonly ReleasedReading[] {
  const released: ReleasedReading[] = [];
  const remaining: WaitingReading[] = [];
  for (const reading of state.waiting) {
    const segment = findSegment(state, reading.meterId, reading.epoch);
    const refused = segment === undefined ? mayWait(state, reading.meterId, reading.epoch) : undefined;
    if (segment !== undefined) released.push({ reading, outcome: count(state, segment, reading, lengthS) });
    else if (refused === undefined) remaining.push(reading);
    else released.push({ reading, outcome: { kind: "quarantined", reason: refused } });
  }
  state.waiting = remaining;
  return released;
}

/** The unwrapped registers of a reading or closing at (t, seq), or why they do not fit their neighbours in time. */
export function fitRegisters(
  state: ServicePoint,
  segment: Segment,
  shown: Registers & { readonly t: number; readonly seq: number },
): Registers | RegisterFault {
  const { before, after } = neighbours(state, segment, shown);
  const unwrap = (register: keyof Registers): Wh | RegisterFault =>
    unwrapRegister(
      shown[register],
      shown.t,
      segment,
      registerOf(before, register),
      after && registerOf(after, register),
    );
  const importWh = unwrap("importWh");
  if (typeof importWh === "string") return importWh;
  const exportWh = unwrap("exportWh");
  return typeof exportWh === "string" ? exportWh : { importWh, exportWh };
}

/** Whether this reading was seen, and with which content; remembers it if not. */
function recognise(state: ServicePoint, reading: Reading): ReadingOutcome | undefined {
  const { meterId, epoch, seq } = reading;
  const hash = contentHash(reading);
  const seen = state.recent.find(
    (recent) => recent.seq === seq && recent.epoch === epoch && recent.meterId === meterId,
  );
  if (seen !== undefined) {
    const equal = seen.contentHash[0] === hash[0] && seen.contentHash[1] === hash[1];
    return equal ? { kind: "duplicate" } : { kind: "quarantined", reason: "equivocation" };
  }
  state.recent.push({ meterId, epoch, seq, contentHash: hash });
  if (state.recent.length > MAX_RECENT) state.recent.shift();
  return undefined;
}

function count(
  state: ServicePoint,
  segment: Segment,
  reading: WaitingReading,
  lengthS: number,
): ReadingOutcome {
  const { t, seq } = reading;
  if (t < segment.openedAt) return { kind: "quarantined", reason: "before-epoch-start" };
  if (segment.closing !== undefined && t > segment.closing.at) {
    return { kind: "quarantined", reason: "after-epoch-end" };
  }
  const fitted = fitRegisters(state, segment, reading);
  if (typeof fitted === "string") return { kind: "quarantined", reason: fitted };
  const point: Point = { segment, t, seq, ...fitted };
  // Whatever else is said of an instant that has a point already cannot add to it.
  const stale = state.points.some((known) => known.t === t);
  placePoint(state, point, lengthS);
  return stale ? { kind: "stale" } : { kind: "accepted", creditWh: creditWh(point) };
}

interface Neighbour extends Registers {
  readonly t: number;
}

/** The nearest points of the same epoch before and after (t, seq): a late reading has to fit below its successor too. */
function neighbours(
  state: ServicePoint,
  segment: Segment,
  { t, seq }: { readonly t: number; readonly seq: number },
): { before: Neighbour; after: Neighbour | undefined } {
  let before: Neighbour = { t: segment.openedAt, ...segment.initial };
  let after: Neighbour | undefined = segment.closing && { t: segment.closing.at, ...segment.closing.final };
  for (const point of state.points) {
    if (point.segment !== segment) continue;
    if (point.t < t || (point.t === t && point.seq < seq)) {
      before = point;
    } else {
      after = point;
      break;
    }
  }
  return { before, after };
}

function registerOf(neighbour: Neighbour, register: keyof Registers): RegisterPoint {
  return { t: neighbour.t, valueWh: neighbour[register] };
}

function findSegment(state: ServicePoint, meterId: string, epoch: number): Segment | undefined {
  return state.segments.findLast((segment) => segment.epoch === epoch && segment.meterId === meterId);
}

/** Whether a record may still open this epoch; the reason where it may not. */
function mayWait(state: ServicePoint, meterId: string, epoch: number): QuarantineReason | undefined {
  const open = state.segments.at(-1)!;
  if (open.closing !== undefined) return "after-epoch-end";
  const ofMeter = state.segments.findLast((segment) => segment.meterId === meterId);
  if (ofMeter !== undefined && (ofMeter !== open || epoch < open.epoch)) return "epoch-unknown";
  // A meter that no record has brought yet starts at epoch 0, the first of the two that may wait.
  const newest = ofMeter?.epoch ?? -1;
  return epoch > newest + MAX_EPOCHS_AHEAD ? "epoch-too-far-ahead" : undefined;
}

import type { SwapRecord } from "../domain/metering/registry-records.ts";
import { invariant } from "../service/errors.ts";
import { drawFault, type FaultRates, type IntervalFault, type Outage, outagesOf } from "./faults.ts";
import { type Fleet, INTERVAL_S, meterAt, type SimulatedServicePoint } from "./fleet.ts";
import {
  faultyMessages,
  honestMessages,
  type PublishAction,
  publishReadings,
  type Snapshots,
} from "./messages.ts";
import { readingJson, type SimulatedMeter } from "./meter.ts";
import { integerBetween, keyOf, uniform } from "./random.ts";

/** The operator swaps a meter: the old one has published all it will, the new one begins. */
export interface SwapAction {
  readonly type: "swap";
  /** Unix seconds. */
  readonly at: number;
  readonly region: string;
  readonly record: SwapRecord;
  readonly from: SimulatedMeter;
  readonly to: SimulatedMeter;
}

export type Action = PublishAction | SwapAction;

/** What a schedule follows from. */
export interface ScheduleOptions {
  readonly fleet: Fleet;
  readonly rates: FaultRates;
  /** The end of the last interval, where there is one: the last two intervals are free of faults. */
  readonly lastEnd?: number;
}

/** Share of intervals in which a meter takes a reading between the boundaries. */
const BETWEEN_SHARE = 0.4;
/** Share of those in which it publishes both readings as one array. */
const ARRAY_SHARE = 0.3;
/** Readings between keep clear of the boundaries by this much. */
const MARGIN_S = 60;
/** The longest delay of a boundary snapshot: firmware spreads the fleet over it. */
const JITTER_S = 30;
/** What was held back leaves this long after a boundary: behind its snapshots, before the next readings. */
const HELD_AFTER_S = 35;
/** Faults strike from this interval on, so that none moves a reading before the fleet's start. */
const FIRST_FAULTY_INTERVAL = 3;
/** Intervals at the end of a run in which all is honest; what a fault holds back leaves before them. */
const CLEAN_INTERVALS = 2;

/** The last of an interval's messages leaves at most this many seconds after its end. */
export const LAST_MESSAGE_AFTER_S = 40;

interface PlannedPoint {
  readonly point: SimulatedServicePoint;
  readonly index: number;
  readonly messageKey: number;
  readonly faultKey: number;
  readonly outageKey: number;
}

/**
 * What a fleet's meters do, interval by interval. Each answer is a function of the fleet, the rates and the
 * interval alone: a simulator that starts anew repeats the same messages with the same bytes.
 */
export class Schedule {
  readonly #fleet: Fleet;
  readonly #rates: FaultRates;
  readonly #lastEnd: number;
  readonly #points: readonly PlannedPoint[];
  readonly #outages = new Map<number, readonly Outage[]>();

  constructor(options: ScheduleOptions) {
    const { seed, servicePoints } = options.fleet;
    this.#fleet = options.fleet;
    this.#rates = options.rates;
    this.#lastEnd = options.lastEnd ?? Number.POSITIVE_INFINITY;
    this.#points = servicePoints.map((point, index) => ({
      point,
      index,
      messageKey: keyOf(seed, point.servicePoint, "messages"),
      faultKey: keyOf(seed, point.servicePoint, "faults"),
      outageKey: keyOf(seed, point.servicePoint, "outages"),
    }));
  }

  /**
   * Everything that happens in the interval that ends at `end` and in the `LAST_MESSAGE_AFTER_S` after it in which
   * its boundary snapshots leave, in the order of `at`.
   */
  actions(end: number): readonly Action[] {
    const interval = (end - this.#fleet.start) / INTERVAL_S;
    invariant(Number.isInteger(interval) && interval >= 1, "a schedule begins at the fleet's start");
    return this.#points
      .flatMap((planned) => [
        ...this.#backlog(planned, interval),
        ...this.#messages(planned, interval),
        ...this.#late(planned, interval),
        ...this.#swap(planned, end),
      ])
      .sort((a, b) => a.at - b.at);
  }

  /** The messages that belong to an interval and leave in it. */
  #messages(planned: PlannedPoint, interval: number): PublishAction[] {
    if (this.#cutOff(planned, interval)) return [];
    const fault = this.#fault(planned, interval);
    const snapshots = this.#snapshots(planned, interval, fault === "disordered");
    if (fault !== undefined) {
      const stranger = this.#stranger(planned, interval);
      return faultyMessages(fault, snapshots, { key: planned.faultKey, interval, stranger });
    }
    return honestMessages(snapshots, uniform(planned.messageKey, interval, 4) < ARRAY_SHARE);
  }

  /** The snapshot that a fault held back in the interval before. */
  #late(planned: PlannedPoint, interval: number): PublishAction[] {
    if (this.#cutOff(planned, interval - 1) || this.#fault(planned, interval - 1) !== "late") return [];
    const boundary = this.#end(interval - 1);
    const meter = meterAt(planned.point, boundary);
    return [
      publishReadings(meter, this.#end(interval) + HELD_AFTER_S, "late", [readingJson(meter, boundary)]),
    ];
  }

  /** The readings of an outage that ended with the interval before, as one array. */
  #backlog(planned: PlannedPoint, interval: number): PublishAction[] {
    if (!this.#cutOff(planned, interval - 1) || this.#cutOff(planned, interval)) return [];
    const readings: string[] = [];
    for (let missed = interval - 1; this.#cutOff(planned, missed); missed -= 1) {
      const { meter, end, between } = this.#snapshots(planned, missed, false);
      readings.unshift(readingJson(meter, end));
      if (between !== undefined) readings.unshift(readingJson(between.meter, between.t));
    }
    const { meter } = planned.point;
    return [publishReadings(meter, this.#end(interval - 1) + HELD_AFTER_S, "backlog", readings)];
  }

  #swap({ point }: PlannedPoint, end: number): SwapAction[] {
    const { swap, region, meter } = point;
    if (swap === undefined || swap.record.at <= end - INTERVAL_S || swap.record.at > end) return [];
    return [{ type: "swap", at: swap.record.at, region, record: swap.record, from: meter, to: swap.meter }];
  }

  #snapshots({ point, messageKey }: PlannedPoint, interval: number, wantsBetween: boolean): Snapshots {
    const end = this.#end(interval);
    const t = integerBetween(messageKey, end - INTERVAL_S + MARGIN_S, end - MARGIN_S, interval, 1);
    const at = t + integerBetween(messageKey, 1, 5, interval, 2);
    const meter = meterAt(point, t);
    // A meter that is taken away within these seconds takes its reading with it.
    const takes =
      meter === meterAt(point, at) && (wantsBetween || uniform(messageKey, interval) < BETWEEN_SHARE);
    return {
      meter: meterAt(point, end),
      end,
      boundaryAt: end + integerBetween(messageKey, 1, JITTER_S, interval, 3),
      between: takes ? { meter, t, at } : undefined,
    };
  }

  #fault({ point, faultKey }: PlannedPoint, interval: number): IntervalFault | undefined {
    const end = this.#end(interval);
    const isAtEnd = end > this.#lastEnd - (CLEAN_INTERVALS + 1) * INTERVAL_S;
    if (interval < FIRST_FAULTY_INTERVAL || isAtEnd) return undefined;
    // A device about to go would take what it held back with it, and one that has just come is checked closely.
    const swapAt = point.swap?.record.at ?? Number.NEGATIVE_INFINITY;
    if (Math.abs(end - swapAt) < 3 * INTERVAL_S) return undefined;
    return drawFault(this.#rates, faultKey, interval);
  }

  /** Whether an outage cuts the service point off in an interval. */
  #cutOff({ point, outageKey }: PlannedPoint, interval: number): boolean {
    if (interval < FIRST_FAULTY_INTERVAL || point.swap !== undefined) return false;
    const block = Math.floor((interval - 1) / this.#fleet.intervals);
    const index = this.#outagesOf(block).findIndex(
      ({ first, last }) => interval >= first && interval <= last,
    );
    return index >= 0 && uniform(outageKey, block, index) < this.#rates.outage;
  }

  #outagesOf(block: number): readonly Outage[] {
    let outages = this.#outages.get(block);
    if (outages === undefined) {
      const { seed, intervals } = this.#fleet;
      const lastEnd = this.#lastEnd - CLEAN_INTERVALS * INTERVAL_S;
      outages = outagesOf(seed, block, intervals).filter(({ last }) => this.#end(last + 1) <= lastEnd);
      this.#outages.set(block, outages);
    }
    return outages;
  }

  /** Some other meter of the fleet; a lone meter's double that does not exist. */
  #stranger({ index, faultKey, point }: PlannedPoint, interval: number): SimulatedMeter {
    const { length } = this.#points;
    const offset = integerBetween(faultKey, 1, Math.max(1, length - 1), interval, 2);
    const other = this.#points[(index + offset) % length]?.point.meter ?? point.meter;
    return other === point.meter ? { ...other, meterId: `${other.meterId}-other` } : other;
  }

  #end(interval: number): number {
    return this.#fleet.start + interval * INTERVAL_S;
  }
}

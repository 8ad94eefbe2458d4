import { integerBetween, keyOf, uniform } from "./random.ts";

/**
 * What can go wrong with the messages of one meter in one interval.
 *
 * - `lost`: the boundary snapshot is never published.
 * - `duplicated`: it is published twice.
 * - `late`: it is published one interval later, after a newer one.
 * - `disordered`: an earlier reading is published after the boundary snapshot.
 * - `rebooted`: the snapshot comes again, same time and registers, as a new reading.
 * - `clockAhead`, `clockBehind`: its time is off, within what is accepted.
 * - `clockFuture`, `clockLost`: one more reading a year ahead, or of the year 2000: not accepted.
 * - `garbage`: one more payload that is no reading.
 * - `foreignTopic`: one more reading under a topic that is not the meter's.
 */
export const INTERVAL_FAULTS = [
  "lost",
  "duplicated",
  "late",
  "disordered",
  "rebooted",
  "clockAhead",
  "clockBehind",
  "clockFuture",
  "clockLost",
  "garbage",
  "foreignTopic",
] as const;
export type IntervalFault = (typeof INTERVAL_FAULTS)[number];

/** Why a message is as it is: an interval's fault, an outage's backlog, or none. */
export type MessageKind = "regular" | "backlog" | IntervalFault;

/** How often faults strike. */
export interface FaultRates {
  /** Share of a meter's intervals, for each fault; together at most 1. */
  readonly intervals: Readonly<Record<IntervalFault, number>>;
  /** Share of meters that an outage of the network cuts off. */
  readonly outage: number;
}

/** All faults, as in the demo. */
export const DEMO_FAULT_RATES: FaultRates = {
  intervals: {
    lost: 0.01,
    duplicated: 0.01,
    late: 0.01,
    disordered: 0.01,
    rebooted: 0.005,
    clockAhead: 0.004,
    clockBehind: 0.004,
    clockFuture: 0.002,
    clockLost: 0.002,
    garbage: 0.004,
    foreignTopic: 0.004,
  },
  outage: 0.1,
};

/** No faults, save the fleet's rollovers and swaps. */
export const NO_FAULT_RATES: FaultRates = {
  intervals: {
    lost: 0,
    duplicated: 0,
    late: 0,
    disordered: 0,
    rebooted: 0,
    clockAhead: 0,
    clockBehind: 0,
    clockFuture: 0,
    clockLost: 0,
    garbage: 0,
    foreignTopic: 0,
  },
  outage: 0,
};

/** The fault that strikes in an interval given by its number; at most one. `key` is the service point's. */
export function drawFault(rates: FaultRates, key: number, interval: number): IntervalFault | undefined {
  let rest = uniform(key, interval);
  for (const fault of INTERVAL_FAULTS) {
    rest -= rates.intervals[fault];
    if (rest < 0) return fault;
  }
  return undefined;
}

/** An outage of the network: intervals `first` to `last`, numbered from 1 at the fleet's start. */
export interface Outage {
  readonly first: number;
  readonly last: number;
}

/** Lengths in intervals: one longer than a boundary stays open, one long enough that a meter stops counting. */
const OUTAGE_LENGTHS = [3, 6] as const;

/**
 * The outages of the `block`-th run of `blockLength` intervals (from 0). Outages are common to all regions, so that
 * a replay waits for a region's grace time a few times a day and not once for each meter. One that does not fit
 * with two intervals to spare is left out.
 */
export function outagesOf(seed: string, block: number, blockLength: number): readonly Outage[] {
  const key = keyOf(seed, "outages");
  const offset = block * blockLength;
  return OUTAGE_LENGTHS.flatMap((length, index) => {
    const earliest = Math.max(3, Math.floor(blockLength * (index === 0 ? 0.1 : 0.5)));
    const latest = Math.floor(blockLength * (index === 0 ? 0.35 : 0.8));
    const first = integerBetween(key, earliest, Math.max(earliest, latest), block, index);
    const last = first + length - 1;
    return last > blockLength - 3 ? [] : [{ first: offset + first, last: offset + last }];
  });
}

/** Payloads that no codec reads. Each counts as one reading, though none can be found in it. */
export const GARBAGE_PAYLOADS: readonly Buffer[] = [
  Buffer.from("hello"),
  Buffer.from(`{"epoch":0,"seq":17,"t":17950`),
  Buffer.from("null"),
  Buffer.from("{}"),
  Buffer.from(`{"epoch":0,"seq":"17","t":1795000000,"importWh":1,"exportWh":1}`),
  Buffer.from(`{"epoch":0,"seq":17,"t":1795000000,"importWh":-5,"exportWh":1}`),
  Buffer.from(`{"epoch":0,"seq":17,"t":1795000000,"importWh":1.5,"exportWh":1}`),
  Buffer.from(`{"epoch":0,"seq":17,"t":1795000000,"importWh":9007199254740993,"exportWh":1}`),
  Buffer.from([0xff, 0xfe, 0x00, 0x80, 0x7b]),
];

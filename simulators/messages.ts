import { STATUS } from "../domain/metering/reading.ts";
import { upstreamTopic } from "../domain/metering/topics.ts";
import { GARBAGE_PAYLOADS, type IntervalFault, type MessageKind } from "./faults.ts";
import { readingJson, type SimulatedMeter, SNAPSHOT } from "./meter.ts";
import { integerBetween } from "./random.ts";

/** One PUBLISH of one meter. */
export interface PublishAction {
  readonly type: "publish";
  /** When it leaves the meter, unix seconds. */
  readonly at: number;
  readonly kind: MessageKind;
  /** Who publishes, whatever the topic says. */
  readonly meter: SimulatedMeter;
  readonly topic: string;
  readonly payload: string | Buffer;
  /** Readings in the payload; a payload that is none counts as one. */
  readonly readings: number;
  /** Whether it must end as a dead letter. */
  readonly refused: boolean;
}

/** The honest snapshots of one interval and when they leave the meter. */
export interface Snapshots {
  /** The device at the interval's end. */
  readonly meter: SimulatedMeter;
  readonly end: number;
  readonly boundaryAt: number;
  /** A reading between the boundaries, if the meter takes one; a swapped meter's successor may be at the end. */
  readonly between: { readonly meter: SimulatedMeter; readonly t: number; readonly at: number } | undefined;
}

/** Chance for the details of a fault. */
export interface FaultChance {
  readonly key: number;
  /** The interval's number. */
  readonly interval: number;
  /** The meter under whose topic a foreign publish goes. */
  readonly stranger: SimulatedMeter;
}

/** A clock runs ahead by no more than this: ingest accepts 60 s, and the message leaves after the true time. */
const CLOCK_AHEAD_S = [15, 55] as const;
/** A clock lags by this: some readings fall into the interval before, where they contradict their neighbours. */
const CLOCK_BEHIND_S = [120, 1500] as const;
/** Off by a year, so that it lies ahead of ingest's clock in a replay of the past, too. */
const YEAR_S = 366 * 86_400;
/** 2000-01-01: what a clock shows after its battery has failed. */
const CLOCK_LOST_T = 946_684_800;
const UNSYNCHRONISED = { status: STATUS.clockUnsynchronised };

/** The publish of one reading or, as an array, of several. */
export function publishReadings(
  meter: SimulatedMeter,
  at: number,
  kind: MessageKind,
  readings: readonly string[],
): PublishAction {
  const [only] = readings;
  const payload = readings.length === 1 && only !== undefined ? only : `[${readings.join(",")}]`;
  return {
    type: "publish",
    at,
    kind,
    meter,
    topic: readingTopic(meter),
    payload,
    readings: readings.length,
    refused: false,
  };
}

/** The messages of an interval in which all is well; `asArray` packs them into one where it can. */
export function honestMessages(snapshots: Snapshots, asArray: boolean): PublishAction[] {
  const { meter, end, boundaryAt, between } = snapshots;
  if (asArray && between?.meter === meter) {
    return [
      publishReadings(meter, boundaryAt, "regular", [readingJson(meter, between.t), readingJson(meter, end)]),
    ];
  }
  return [...betweenMessages(snapshots), boundaryMessage(snapshots)];
}

/** The messages that leave in an interval in which `fault` strikes. What it holds back is not among them. */
export function faultyMessages(
  fault: IntervalFault,
  snapshots: Snapshots,
  chance: FaultChance,
): PublishAction[] {
  return FAULTS[fault](
    { ...snapshots, others: betweenMessages(snapshots), boundary: boundaryMessage(snapshots) },
    chance,
  );
}

interface Struck extends Snapshots {
  readonly others: readonly PublishAction[];
  readonly boundary: PublishAction;
}

const FAULTS: Readonly<Record<IntervalFault, (struck: Struck, chance: FaultChance) => PublishAction[]>> = {
  lost: ({ others, boundary }) => [...others, { ...boundary, kind: "lost" }],
  duplicated: ({ others, boundary }) => [
    ...others,
    boundary,
    { ...boundary, kind: "duplicated", at: boundary.at + 2 },
  ],
  late: ({ others }) => [...others],
  disordered: ({ others, boundary }) => [
    boundary,
    ...others.map((message) => ({ ...message, kind: "disordered" as const, at: boundary.at + 2 })),
  ],
  rebooted: ({ others, boundary, meter, end }) => [
    ...others,
    boundary,
    publishReadings(meter, boundary.at + 3, "rebooted", [
      readingJson(meter, end, { snapshot: SNAPSHOT.afterReboot, status: STATUS.powerFail }),
    ]),
  ],
  clockAhead: ({ others, boundary, meter, end }, chance) => [
    ...others,
    publishReadings(meter, boundary.at, "clockAhead", [
      readingJson(meter, end, { clock: end + draw(chance, ...CLOCK_AHEAD_S), ...UNSYNCHRONISED }),
    ]),
  ],
  clockBehind: ({ others, boundary, meter, end }, chance) => [
    ...others,
    publishReadings(meter, boundary.at, "clockBehind", [
      readingJson(meter, end, { clock: end - draw(chance, ...CLOCK_BEHIND_S), ...UNSYNCHRONISED }),
    ]),
  ],
  clockFuture: ({ others, boundary, meter, end }) => [
    ...others,
    boundary,
    refused(boundary, "clockFuture", wrongClockJson(meter, end, end + YEAR_S)),
  ],
  clockLost: ({ others, boundary, meter, end }) => [
    ...others,
    boundary,
    refused(boundary, "clockLost", wrongClockJson(meter, end, CLOCK_LOST_T + (end % 86_400))),
  ],
  garbage: ({ others, boundary }, chance) => [
    ...others,
    boundary,
    refused(boundary, "garbage", GARBAGE_PAYLOADS[draw(chance, 0, GARBAGE_PAYLOADS.length - 1)] ?? "{"),
  ],
  foreignTopic: ({ others, boundary, meter, end }, { stranger }) => [
    ...others,
    boundary,
    {
      ...refused(boundary, "foreignTopic", readingJson(meter, end, { snapshot: SNAPSHOT.foreignTopic })),
      topic: readingTopic(stranger),
    },
  ],
};

function draw({ key, interval }: FaultChance, low: number, high: number): number {
  return integerBetween(key, low, high, interval, 1);
}

/** One more message behind the honest one, for the dead letters. */
function refused(
  boundary: PublishAction,
  kind: IntervalFault,
  payload: PublishAction["payload"],
): PublishAction {
  return { ...boundary, kind, payload, at: boundary.at + 1, readings: 1, refused: true };
}

function betweenMessages({ between }: Snapshots): PublishAction[] {
  if (between === undefined) return [];
  return [publishReadings(between.meter, between.at, "regular", [readingJson(between.meter, between.t)])];
}

function boundaryMessage({ meter, end, boundaryAt }: Snapshots): PublishAction {
  return publishReadings(meter, boundaryAt, "regular", [readingJson(meter, end)]);
}

function wrongClockJson(meter: SimulatedMeter, end: number, clock: number): string {
  return readingJson(meter, end, {
    snapshot: SNAPSHOT.wrongClock,
    clock,
    status: STATUS.clockUnsynchronised,
  });
}

function readingTopic({ utility, region, meterId }: SimulatedMeter): string {
  return upstreamTopic({ utility, region, meterId, kind: "rd" });
}

import { createHash } from "node:crypto";
import type { CommissionRecord, Registers, SwapRecord } from "../domain/metering/registry-records.ts";
import { addWh, subWh, type Wh, wh, ZERO_WH } from "../domain/metering/units.ts";
import type { Hex } from "../domain/settlement/settlement.ts";
import { GridrootError } from "../service/errors.ts";
import { countedAt, createMeter, registersAt, type SimulatedMeter } from "./meter.ts";
import { between, integerBetween, keyOf } from "./random.ts";
import { SiteEnergy } from "./site-energy.ts";
import { createSite, type SiteKind } from "./site.ts";

/** Length of the intervals that the fleet reports in, seconds. */
export const INTERVAL_S = 900;

/** A region that gets meters. */
export interface FleetRegion {
  readonly name: string;
  readonly utility: string;
}

/** Everything that a fleet follows from. The same options give the same fleet, to the last Wh. */
export interface FleetOptions {
  /** Any text. */
  readonly seed: string;
  /** Key of the meters' MQTT secrets, not to be guessed: whoever has it can publish as any meter. */
  readonly secretKey: string;
  readonly regions: readonly FleetRegion[];
  /** Service points in each region. Default 30. */
  readonly metersPerRegion?: number;
  /** When all meters are commissioned: a boundary, unix seconds. A restarted simulator passes the same again. */
  readonly start: number;
  /** Intervals from `start` in which rollovers, swaps and outages have their place. Default 96. */
  readonly intervals?: number;
  /** Zone of the utilities, seconds east of UTC, a multiple of 900. Default Thailand's 25,200. */
  readonly utcOffsetS?: number;
}

/** Where energy is delivered: a site, and the devices that measure it one after the other. */
export interface SimulatedServicePoint {
  readonly servicePoint: string;
  readonly region: string;
  /** Who is credited. */
  readonly account: Hex;
  readonly commission: CommissionRecord;
  readonly meter: SimulatedMeter;
  /** The next device and when it takes over. */
  readonly swap: { readonly meter: SimulatedMeter; readonly record: SwapRecord } | undefined;
}

/** The meters of all regions. */
export interface Fleet {
  readonly seed: string;
  readonly start: number;
  readonly intervals: number;
  readonly servicePoints: readonly SimulatedServicePoint[];
}

/** Kinds of sites in the order of service points, over and over: every region has exporters from the first on. */
const MIX: readonly SiteKind[] = [
  "prosumer",
  "household",
  "shop",
  "prosumerWithStorage",
  "farm",
  "household",
  "prosumer",
  "household",
  "household",
  "household",
];
/** Places in the mix whose service point belongs to the owner of the one before: two exporters, or one. */
const SECOND_PROPERTY = new Set([4, 7]);
/** Places in the mix whose registers wrap within the fleet's intervals. */
const EXPORT_ROLLOVER_PLACE = 0;
const IMPORT_ROLLOVER_PLACE = 1;
/** The service point of each region whose meter is swapped, or the last one where there are fewer. */
const SWAP_INDEX = 6;
/** A swap keeps clear of both ends of the fleet's intervals. */
const FEWEST_INTERVALS_FOR_SWAP = 8;

/** Builds the fleet. Throws `GridrootError` `fleet-options` where `start` is no boundary or a count is none. */
export function createFleet(options: FleetOptions): Fleet {
  const { seed, regions, start, metersPerRegion = 30, intervals = 96 } = options;
  if (start % INTERVAL_S !== 0) throw new GridrootError("fleet-options", "a fleet starts at a boundary");
  if (!isCount(metersPerRegion) || !isCount(intervals)) {
    throw new GridrootError("fleet-options", "meters and intervals are whole numbers from 1 on");
  }
  const servicePoints = regions.flatMap((region) =>
    Array.from({ length: metersPerRegion }, (_, index) =>
      createServicePoint({ ...options, metersPerRegion, intervals }, region, index),
    ),
  );
  return { seed, start, intervals, servicePoints };
}

/** The records that commission the fleet, in the order of service points. */
export function commissionRecords(fleet: Fleet): readonly CommissionRecord[] {
  return fleet.servicePoints.map(({ commission }) => commission);
}

/** The device that measures a service point at `t`; a swap's instant still belongs to the old one. */
export function meterAt(point: SimulatedServicePoint, t: number): SimulatedMeter {
  return point.swap !== undefined && t > point.swap.record.at ? point.swap.meter : point.meter;
}

/**
 * What a service point has exported from the fleet's start to `t` by its own registers: last minus initial,
 * unwrapped, over a swap.
 */
export function exportedWh(point: SimulatedServicePoint, t: number): Wh {
  const { swap } = point;
  if (swap === undefined || t <= swap.record.at) return countedAt(point.meter, t).exportWh;
  return addWh(countedAt(point.meter, swap.record.at).exportWh, countedAt(swap.meter, t).exportWh);
}

/** `exportedWh` summed by region: the truth that the ledger and the chain are compared with. */
export function trueExportWh(fleet: Fleet, t: number): ReadonlyMap<string, Wh> {
  const byRegion = new Map<string, Wh>();
  for (const point of fleet.servicePoints) {
    byRegion.set(point.region, addWh(byRegion.get(point.region) ?? ZERO_WH, exportedWh(point, t)));
  }
  return byRegion;
}

type Sized = FleetOptions & { readonly metersPerRegion: number; readonly intervals: number };

function createServicePoint(options: Sized, region: FleetRegion, index: number): SimulatedServicePoint {
  const { seed, secretKey, start, utcOffsetS = 25_200 } = options;
  const servicePoint = `${region.name}-${String(index + 1).padStart(4, "0")}`;
  const meterId = `${region.utility.toLowerCase()}-${servicePoint}`;
  const place = index % MIX.length;
  const kind = MIX[place] ?? "household";
  const energy = new SiteEnergy({ site: createSite(kind, seed, servicePoint), origin: start, utcOffsetS });
  const modulusWh = wh(kind === "shop" || kind === "farm" ? 1_000_000_000 : 100_000_000);
  const device = { utility: region.utility, region: region.name, secretKey, modulusWh, energy };
  const swapAt = swapInstant(options, servicePoint, index);
  const end = swapAt ?? start + options.intervals * INTERVAL_S;

  const drawn = createMeter({
    ...device,
    meterId,
    installedAt: start,
    initial: drawnRegisters(keyOf(seed, servicePoint, "initial registers"), modulusWh),
  });
  const meter = withRollover(drawn, place, end);
  const account = accountOf(seed, region.name, SECOND_PROPERTY.has(place) ? index - 1 : index);
  const commission: CommissionRecord = {
    type: "commission",
    id: `commission-${meterId}`,
    servicePoint,
    at: start,
    utility: region.utility,
    region: region.name,
    account,
    device: meter.device,
  };
  const point = { servicePoint, region: region.name, account, commission, meter };
  if (swapAt === undefined) return { ...point, swap: undefined };
  const next = createMeter({
    ...device,
    meterId: `${meterId}-b`,
    installedAt: swapAt,
    initial: { importWh: wh(3), exportWh: wh(1) },
  });
  return { ...point, swap: { meter: next, record: swapRecord(point, next) } };
}

/** A used device: anything up to nine tenths of the modulus. */
function drawnRegisters(key: number, modulusWh: Wh): Registers {
  const draw = (counter: number): Wh => wh(Math.floor(between(key, 0, Number(modulusWh) * 0.9, counter)));
  return { importWh: draw(0), exportWh: draw(1) };
}

/** The meter itself, or, where one of its registers is to wrap before `end`, with that register short of it. */
function withRollover(meter: SimulatedMeter, place: number, end: number): SimulatedMeter {
  const counted = countedAt(meter, end);
  const { initial, modulusWh } = meter.device;
  const shortOfModulus = (countedWh: Wh): Wh => subWh(modulusWh, wh(countedWh / 2n + 1n));
  const registers: Partial<Registers> =
    place === EXPORT_ROLLOVER_PLACE
      ? { exportWh: shortOfModulus(counted.exportWh) }
      : place === IMPORT_ROLLOVER_PLACE
        ? { importWh: shortOfModulus(counted.importWh) }
        : {};
  return { ...meter, device: { ...meter.device, initial: { ...initial, ...registers } } };
}

/** When the meter of a service point is swapped: in the middle half of the intervals, never at a boundary. */
function swapInstant(options: Sized, servicePoint: string, index: number): number | undefined {
  const { seed, start, intervals, metersPerRegion } = options;
  if (index !== Math.min(SWAP_INDEX, metersPerRegion - 1) || intervals < FEWEST_INTERVALS_FOR_SWAP) {
    return undefined;
  }
  const key = keyOf(seed, servicePoint, "swap");
  const interval = integerBetween(key, Math.ceil(intervals / 4), Math.floor(intervals / 2), 0);
  return start + interval * INTERVAL_S + integerBetween(key, 360, 540, 1);
}

function swapRecord(
  point: { readonly servicePoint: string; readonly meter: SimulatedMeter },
  next: SimulatedMeter,
): SwapRecord {
  return {
    type: "swap",
    id: `swap-${point.meter.meterId}`,
    servicePoint: point.servicePoint,
    at: next.installedAt,
    meterId: point.meter.meterId,
    final: registersAt(point.meter, next.installedAt),
    device: next.device,
  };
}

function accountOf(seed: string, region: string, owner: number): Hex {
  return `0x${createHash("sha256").update(`account:${seed}:${region}:${owner}`).digest("hex").slice(0, 40)}`;
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 1;
}

import { invariant } from "../service/errors.ts";
import { localDay } from "./calendar.ts";
import {
  highestQuarterWh,
  irradianceOfDayWm2,
  type LoadProfile,
  loadOfDayWh,
  QUARTERS_PER_DAY,
} from "./profiles.ts";
import { between, keyOf, uniform } from "./random.ts";

/** What stands behind a service point. */
export const SITE_KINDS = ["household", "shop", "farm", "prosumer", "prosumerWithStorage"] as const;
export type SiteKind = (typeof SITE_KINDS)[number];

/** A customer's load and plant. Sizes are drawn once from the seed and never change. */
export interface Site {
  readonly kind: SiteKind;
  /** What the customer uses in a year, from the grid or from the roof, kWh. */
  readonly demandKwh: number;
  /** Peak power of the photovoltaic plant, kW; 0 where there is none. The inverter gives no more than this. */
  readonly pvKwp: number;
  /** Yield of the plant's tilt and orientation against the horizontal. */
  readonly tiltFactor: number;
  /** Surplus that the battery takes each day before any is exported, Wh; 0 where there is none. */
  readonly storageWh: number;
  /** Names of the streams of chance of this site. */
  readonly loadKey: number;
  readonly cloudKey: number;
}

/**
 * The energy of one local day, milliwatt-hours. Entry `q` is the sum over the first `q` quarter hours: 97 entries
 * of whole numbers, each at least the one before.
 */
export interface DayEnergy {
  readonly importMilliWh: Float64Array;
  readonly exportMilliWh: Float64Array;
}

/** Ranges from which the sizes of a site are drawn. */
const SIZES: Readonly<
  Record<SiteKind, { demandKwh: [number, number]; pvKwp: [number, number]; storageWh: [number, number] }>
> = {
  household: { demandKwh: [1500, 5000], pvKwp: [0, 0], storageWh: [0, 0] },
  shop: { demandKwh: [6000, 40_000], pvKwp: [0, 0], storageWh: [0, 0] },
  farm: { demandKwh: [8000, 30_000], pvKwp: [8, 30], storageWh: [0, 0] },
  prosumer: { demandKwh: [2500, 6000], pvKwp: [3, 10], storageWh: [0, 0] },
  prosumerWithStorage: { demandKwh: [2500, 6000], pvKwp: [5, 12], storageWh: [4000, 10_000] },
};

/** What a household with a plant still draws from the grid, as a share of its demand, and in which shape. */
const GRID_DRAW: Partial<Record<SiteKind, { profile: LoadProfile; share: number }>> = {
  prosumer: { profile: "p25", share: 0.65 },
  prosumerWithStorage: { profile: "s25", share: 0.3 },
};

const DEMAND_PROFILE: Readonly<Record<SiteKind, LoadProfile>> = {
  household: "h25",
  shop: "g25",
  farm: "l25",
  prosumer: "h25",
  prosumerWithStorage: "h25",
};

/** Losses of inverter, cables, heat and dirt. */
const PERFORMANCE_RATIO = 0.85;
/** One customer is not the average of thousands: each day and each quarter hour has a factor of its own. */
const DAY_NOISE = [0.8, 1.2] as const;
const QUARTER_NOISE = [0.6, 1.4] as const;
/** The irradiance year has its own weather; sites differ from it by passing clouds. */
const CLOUD_OF_DAY = [0.7, 1.1] as const;
const CLOUD_OF_QUARTER = [0.8, 1.1] as const;

/** Draws the sizes of a site of `kind` from the seed's stream `name`. */
export function createSite(kind: SiteKind, seed: string, name: string): Site {
  const key = keyOf(seed, name, "size");
  const { demandKwh, pvKwp, storageWh } = SIZES[kind];
  return {
    kind,
    demandKwh: between(key, ...demandKwh, 0),
    pvKwp: between(key, ...pvKwp, 1),
    tiltFactor: between(key, 0.9, 1.1, 2),
    storageWh: Math.round(between(key, ...storageWh, 3)),
    loadKey: keyOf(seed, name, "load"),
    cloudKey: keyOf(seed, name, "cloud"),
  };
}

/**
 * What passes the meter on a local day (days since 1970-01-01). A pure function: the same site and day always give
 * the same numbers, on any machine, because it uses no more than the four basic operations and rounding.
 */
export function dayEnergy(site: Site, dayNumber: number): DayEnergy {
  const day = localDay(dayNumber);
  const demand = loadOfDayWh(DEMAND_PROFILE[site.kind], day);
  const draw = GRID_DRAW[site.kind];
  const gridShape = draw === undefined ? undefined : loadOfDayWh(draw.profile, day);
  const irradiance = irradianceOfDayWm2(day);
  const dayLoad = between(site.loadKey, ...DAY_NOISE, dayNumber);
  const dayCloud = between(site.cloudKey, ...CLOUD_OF_DAY, dayNumber);
  const importMilliWh = new Float64Array(QUARTERS_PER_DAY + 1);
  const exportMilliWh = new Float64Array(QUARTERS_PER_DAY + 1);
  let storageRoomMilliWh = site.storageWh * 1000;

  for (let quarter = 0; quarter < QUARTERS_PER_DAY; quarter += 1) {
    // A profile's Wh at 1,000 kWh a year, times kWh a year, is milliwatt-hours.
    const noise = dayLoad * between(site.loadKey, ...QUARTER_NOISE, dayNumber, quarter + 1);
    const demandMilliWh = (demand[quarter] ?? 0) * site.demandKwh * noise;
    const pvMilliWh = generation(site, irradiance[quarter] ?? 0, dayCloud, dayNumber, quarter);
    const drawnMilliWh =
      draw === undefined || gridShape === undefined
        ? Math.max(0, demandMilliWh - pvMilliWh)
        : (gridShape[quarter] ?? 0) * site.demandKwh * draw.share * noise;
    const surplusMilliWh = pvMilliWh - Math.min(pvMilliWh, Math.max(0, demandMilliWh - drawnMilliWh));
    const storedMilliWh = Math.min(storageRoomMilliWh, surplusMilliWh);
    storageRoomMilliWh -= storedMilliWh;
    importMilliWh[quarter + 1] = (importMilliWh[quarter] ?? 0) + Math.round(drawnMilliWh);
    exportMilliWh[quarter + 1] = (exportMilliWh[quarter] ?? 0) + Math.round(surplusMilliWh - storedMilliWh);
  }
  return { importMilliWh, exportMilliWh };
}

/** What the plant gives in a quarter hour, milliwatt-hours, at most its peak power. */
function generation(
  site: Site,
  irradianceWm2: number,
  dayCloud: number,
  dayNumber: number,
  quarter: number,
): number {
  if (site.pvKwp === 0 || irradianceWm2 === 0) return 0;
  const cloud = dayCloud * between(site.cloudKey, ...CLOUD_OF_QUARTER, dayNumber, quarter + 1);
  // 1,000 W/m2 is peak power by definition: kWp times W/m2 is watts, and 250 mWh are one watt for a quarter hour.
  const powerW = site.pvKwp * irradianceWm2 * site.tiltFactor * PERFORMANCE_RATIO * cloud;
  return Math.min(powerW, site.pvKwp * 1000) * 250;
}

/** A power that the site never exceeds in either direction, W. */
export function peakPowerW(site: Site): number {
  const noise = DAY_NOISE[1] * QUARTER_NOISE[1];
  const draw = GRID_DRAW[site.kind];
  const importQuarterWh =
    draw === undefined
      ? highestQuarterWh(DEMAND_PROFILE[site.kind])
      : highestQuarterWh(draw.profile) * draw.share;
  const importW = (importQuarterWh * (site.demandKwh / 1000) * noise * 3600) / 900;
  return Math.ceil(Math.max(importW, site.pvKwp * 1000));
}

/** Connections that utilities offer, W: 15(45) and 30(100) A single-phase, three-phase, then by transformer. */
const CONNECTIONS_W = [10_350, 23_000, 31_050, 69_000, 138_000, 276_000] as const;

/** The smallest connection with at least 10 % above what the site ever needs, W. */
export function connectionPowerW(site: Site): number {
  const neededW = peakPowerW(site) * 1.1;
  const connection = CONNECTIONS_W.find((candidateW) => candidateW >= neededW);
  invariant(connection !== undefined, "the largest connection carries the largest site");
  return connection;
}

/** Network voltage and frequency as a meter shows them: a few tenths of a percent around 230 V and 50 Hz. */
export function gridQuality(site: Site, t: number): { voltageDv: number; frequencyMhz: number } {
  return {
    voltageDv: 2240 + Math.floor(uniform(site.loadKey, t, 1) * 120),
    frequencyMhz: 49_960 + Math.floor(uniform(site.loadKey, t, 2) * 80),
  };
}

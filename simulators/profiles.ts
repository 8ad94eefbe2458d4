import { readFileSync } from "node:fs";
import { invariant } from "../service/errors.ts";
import type { DayType, LocalDay } from "./calendar.ts";

/** BDEW standard load profiles of 2025: household, commerce, agriculture, PV household, PV and storage household. */
export const LOAD_PROFILES = ["h25", "g25", "l25", "p25", "s25"] as const;
export type LoadProfile = (typeof LOAD_PROFILES)[number];

/** Quarter hours of a local day: the grid of both data sets once they are loaded. */
export const QUARTERS_PER_DAY = 96;
const DAYS_PER_YEAR = 365;
const HOURS_PER_YEAR = 8760;

type Month = Readonly<Record<DayType, readonly number[]>>;

interface BdewFile {
  readonly dynamicFactor: {
    readonly appliesTo: readonly string[];
    readonly polynomialOfDayOfYear: readonly number[];
  };
  readonly profiles: Readonly<Record<LoadProfile, readonly Month[]>>;
}

interface Loaded {
  readonly bdew: BdewFile;
  /** Mean irradiance of each quarter hour of a year, W/m2, local standard time. */
  readonly irradianceWm2: Float64Array;
}

let loaded: Loaded | undefined;

/** Both data sets, read once from beside this module, in the repository as in the compiled package. */
function profiles(): Loaded {
  loaded ??= { bdew: readBdew(), irradianceWm2: readIrradiance() };
  return loaded;
}

/**
 * The load of a local day under a profile: 96 values in Wh per quarter hour, for a customer who draws 1,000 kWh a
 * year, with the dynamic factor of the day of the year where the profile has one.
 */
export function loadOfDayWh(profile: LoadProfile, day: LocalDay): Float64Array {
  const { dynamicFactor, profiles: tables } = profiles().bdew;
  const quarters = tables[profile][day.month]?.[day.dayType];
  invariant(
    quarters?.length === QUARTERS_PER_DAY,
    "a load profile has 96 values for each month and day type",
  );
  const factor = dynamicFactor.appliesTo.includes(profile)
    ? polynomial(dynamicFactor.polynomialOfDayOfYear, day.dayOfYear)
    : 1;
  return Float64Array.from(quarters, (value) => value * factor);
}

/** The irradiance of a local day: the mean of each of 96 quarter hours, W/m2 on the horizontal. */
export function irradianceOfDayWm2(day: LocalDay): Float64Array {
  const first = (day.dayOfYear - 1) * QUARTERS_PER_DAY;
  return profiles().irradianceWm2.subarray(first, first + QUARTERS_PER_DAY);
}

const highestWh = new Map<LoadProfile, number>();

/** The highest quarter hour of a profile in a year, in Wh for 1,000 kWh a year: bounds a customer's power. */
export function highestQuarterWh(profile: LoadProfile): number {
  const known = highestWh.get(profile);
  if (known !== undefined) return known;
  let highest = 0;
  for (let dayOfYear = 1; dayOfYear <= DAYS_PER_YEAR; dayOfYear += 1) {
    const month = new Date(Date.UTC(2025, 0, dayOfYear)).getUTCMonth();
    for (const dayType of ["workday", "saturday", "sundayOrHoliday"] as const) {
      highest = Math.max(highest, ...loadOfDayWh(profile, { month, dayOfYear, dayType }));
    }
  }
  highestWh.set(profile, highest);
  return highest;
}

function readText(name: string): string {
  return readFileSync(new URL(`./profiles/${name}`, import.meta.url), "utf8");
}

function readBdew(): BdewFile {
  return JSON.parse(readText("bdew-2025.json")) as BdewFile;
}

/**
 * Hourly means become means of quarter hours by straight lines between the middles of the hours. This keeps the
 * year's sum, and generation rises and falls without steps on the hour. Row `h` of the file is the hour from
 * `h` to `h + 1` of the year.
 */
function readIrradiance(): Float64Array {
  const rows = readText("irradiance-tmy3-723170.csv")
    .split("\n")
    .filter((line) => /^\d/.test(line));
  invariant(rows.length === HOURS_PER_YEAR, "the irradiance year has 8,760 hours");
  const hourly = rows.map((row) => Number(row.split(",")[1]));
  const at = (hour: number): number => hourly[(hour + HOURS_PER_YEAR) % HOURS_PER_YEAR] ?? 0;
  return Float64Array.from({ length: DAYS_PER_YEAR * QUARTERS_PER_DAY }, (_, quarter) => {
    const middle = (quarter + 0.5) / 4 - 0.5;
    const hour = Math.floor(middle);
    const share = middle - hour;
    return at(hour) * (1 - share) + at(hour + 1) * share;
  });
}

/** Horner's rule, highest power first. */
function polynomial(coefficients: readonly number[], x: number): number {
  return coefficients.reduce((sum, coefficient) => sum * x + coefficient, 0);
}

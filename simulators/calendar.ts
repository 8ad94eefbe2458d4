/** Local days as the load profiles see them. */

const SECONDS_PER_DAY = 86_400;
/** The days before each month of a common year. */
const DAYS_BEFORE_MONTH = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334] as const;

export type DayType = "workday" | "saturday" | "sundayOrHoliday";

/** Where a day stands in its year and its week. */
export interface LocalDay {
  /** 0 is January. */
  readonly month: number;
  /** 1 to 365; the 29th of February counts as the 28th. */
  readonly dayOfYear: number;
  /** Public holidays are not known: only Sundays are `sundayOrHoliday`. */
  readonly dayType: DayType;
}

/** An instant within its local day. */
export interface LocalInstant {
  /** Days since 1970-01-01, local. */
  readonly dayNumber: number;
  /** 0 to 86,399. */
  readonly secondOfDay: number;
}

/** Splits an instant (unix seconds) by a zone that has no summer time, `utcOffsetS` seconds east of UTC. */
export function localInstant(t: number, utcOffsetS: number): LocalInstant {
  const local = t + utcOffsetS;
  const dayNumber = Math.floor(local / SECONDS_PER_DAY);
  return { dayNumber, secondOfDay: local - dayNumber * SECONDS_PER_DAY };
}

/** The calendar of a local day, given in days since 1970-01-01. */
export function localDay(dayNumber: number): LocalDay {
  const date = new Date(dayNumber * SECONDS_PER_DAY * 1000);
  const month = date.getUTCMonth();
  const isLeapDay = month === 1 && date.getUTCDate() === 29;
  const dayOfMonth = isLeapDay ? 28 : date.getUTCDate();
  return { month, dayOfYear: (DAYS_BEFORE_MONTH[month] ?? 0) + dayOfMonth, dayType: dayTypeOf(date) };
}

function dayTypeOf(date: Date): DayType {
  const weekday = date.getUTCDay();
  if (weekday === 0) return "sundayOrHoliday";
  return weekday === 6 ? "saturday" : "workday";
}

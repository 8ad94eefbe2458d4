import { invariant } from "../service/errors.ts";
import { localInstant } from "./calendar.ts";
import { type DayEnergy, dayEnergy, type Site } from "./site.ts";

/** Energy that has passed a service point in each direction, whole milliwatt-hours. */
export interface Energy {
  readonly importMilliWh: number;
  readonly exportMilliWh: number;
}

const SECONDS_PER_QUARTER = 900;
/** Days whose quarter hours are kept: readings walk through time, late ones look back by hours. */
const DAYS_KEPT = 3;

/**
 * The cumulative energy of a site at any instant from the local day of `origin` on. The answer depends on the site
 * and the instant alone: sums of past days and the quarter hours of the last days asked for are kept, and a
 * caller cannot tell. Numbers stay below 2^53 for a thousand years of the largest site.
 */
export class SiteEnergy {
  readonly site: Site;
  readonly #utcOffsetS: number;
  readonly #firstDay: number;
  /** Entry `n` is the energy of the first `n` days. */
  readonly #days: Energy[] = [{ importMilliWh: 0, exportMilliWh: 0 }];
  readonly #kept = new Map<number, DayEnergy>();

  constructor(options: { site: Site; origin: number; utcOffsetS: number }) {
    this.site = options.site;
    this.#utcOffsetS = options.utcOffsetS;
    this.#firstDay = localInstant(options.origin, options.utcOffsetS).dayNumber;
  }

  /** The energy from the beginning of the origin's local day to `t`, unix seconds, an integer. Never falls with `t`. */
  at(t: number): Energy {
    const { dayNumber, secondOfDay } = localInstant(t, this.#utcOffsetS);
    invariant(
      Number.isInteger(t) && dayNumber >= this.#firstDay,
      "energy is asked for at or after the origin",
    );
    const before = this.#before(dayNumber);
    const day = this.#day(dayNumber);
    return {
      importMilliWh: before.importMilliWh + within(day.importMilliWh, secondOfDay),
      exportMilliWh: before.exportMilliWh + within(day.exportMilliWh, secondOfDay),
    };
  }

  /** Active power during the quarter hour of `t`, W, negative while exporting. */
  powerW(t: number): number {
    const { dayNumber, secondOfDay } = localInstant(t, this.#utcOffsetS);
    const day = this.#day(dayNumber);
    const quarter = Math.floor(secondOfDay / SECONDS_PER_QUARTER);
    const net = rise(day.importMilliWh, quarter) - rise(day.exportMilliWh, quarter);
    return Math.round((net * 3.6) / SECONDS_PER_QUARTER);
  }

  #before(dayNumber: number): Energy {
    const index = dayNumber - this.#firstDay;
    for (let next = this.#days.length; next <= index; next += 1) {
      const last = this.#days[next - 1];
      const day = this.#day(this.#firstDay + next - 1);
      invariant(last !== undefined, "sums of days have no gap");
      this.#days.push({
        importMilliWh: last.importMilliWh + (day.importMilliWh.at(-1) ?? 0),
        exportMilliWh: last.exportMilliWh + (day.exportMilliWh.at(-1) ?? 0),
      });
    }
    const sum = this.#days[index];
    invariant(sum !== undefined, "every day up to this one is summed");
    return sum;
  }

  #day(dayNumber: number): DayEnergy {
    const known = this.#kept.get(dayNumber);
    if (known !== undefined) return known;
    const day = dayEnergy(this.site, dayNumber);
    if (this.#kept.size >= DAYS_KEPT) {
      const [oldest] = this.#kept.keys();
      if (oldest !== undefined) this.#kept.delete(oldest);
    }
    this.#kept.set(dayNumber, day);
    return day;
  }
}

/** The energy of a day up to a second: whole quarter hours, then the running one in proportion, rounded down. */
function within(sums: Float64Array, secondOfDay: number): number {
  const quarter = Math.floor(secondOfDay / SECONDS_PER_QUARTER);
  const seconds = secondOfDay - quarter * SECONDS_PER_QUARTER;
  return (sums[quarter] ?? 0) + Math.floor((rise(sums, quarter) * seconds) / SECONDS_PER_QUARTER);
}

function rise(sums: Float64Array, quarter: number): number {
  return (sums[quarter + 1] ?? 0) - (sums[quarter] ?? 0);
}

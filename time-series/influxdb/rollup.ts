import { nanosOf } from "./line-protocol.ts";

/**
 * What is stored of a bucket. Registers are at most 2^53 - 1 and powers below 2^31 in amount, so all sums are exact
 * numbers, and an hour computed from its quarters equals the hour computed from its readings.
 */
export interface Rollup {
  readings: number;
  firstT: number;
  lastT: number;
  firstImportWh: number;
  lastImportWh: number;
  firstExportWh: number;
  lastExportWh: number;
  powerReadings: number;
  powerSumW: number;
  /** Both 0 where no reading carries a power. */
  minPowerW: number;
  maxPowerW: number;
}

/** A reading as far as rollups are concerned. */
export interface RolledReading {
  readonly t: number;
  readonly seq: number;
  readonly importWh: number;
  readonly exportWh: number;
  readonly powerW: number | undefined;
}

/** Fields of a stored rollup, by their names in InfluxDB. */
export const ROLLUP_FIELDS: Readonly<Record<keyof Rollup, string>> = {
  readings: "readings",
  firstT: "first_t",
  lastT: "last_t",
  firstImportWh: "first_import_wh",
  lastImportWh: "last_import_wh",
  firstExportWh: "first_export_wh",
  lastExportWh: "last_export_wh",
  powerReadings: "power_readings",
  powerSumW: "power_sum_w",
  minPowerW: "min_power_w",
  maxPowerW: "max_power_w",
};
const KEYS = Object.keys(ROLLUP_FIELDS) as (keyof Rollup)[];

/** Puts a bucket together from its readings or from finer buckets, in any order, in constant space. */
export class RollupSum {
  #sum: Rollup | undefined;
  /** Of two readings of one second the seq tells which is first. */
  #firstSeq = 0;
  #lastSeq = 0;

  /** Undefined while nothing was added. */
  get rollup(): Rollup | undefined {
    return this.#sum;
  }

  addReading({ t, seq, importWh, exportWh, powerW }: RolledReading): void {
    const sum = this.#sum;
    if (sum === undefined) {
      this.#sum = {
        ...{ readings: 1, firstT: t, lastT: t },
        ...{ firstImportWh: importWh, lastImportWh: importWh },
        ...{ firstExportWh: exportWh, lastExportWh: exportWh },
        ...{ powerReadings: powerW === undefined ? 0 : 1, powerSumW: powerW ?? 0 },
        ...{ minPowerW: powerW ?? 0, maxPowerW: powerW ?? 0 },
      };
      this.#firstSeq = seq;
      this.#lastSeq = seq;
      return;
    }
    sum.readings += 1;
    if (t < sum.firstT || (t === sum.firstT && seq < this.#firstSeq)) {
      [sum.firstT, sum.firstImportWh, sum.firstExportWh, this.#firstSeq] = [t, importWh, exportWh, seq];
    }
    if (t > sum.lastT || (t === sum.lastT && seq > this.#lastSeq)) {
      [sum.lastT, sum.lastImportWh, sum.lastExportWh, this.#lastSeq] = [t, importWh, exportWh, seq];
    }
    if (powerW !== undefined) addPowers(sum, 1, powerW, powerW, powerW);
  }

  /** Finer buckets hold different instants, so their seqs do not matter. */
  addRollup(finer: Rollup): void {
    const sum = this.#sum;
    if (sum === undefined) {
      this.#sum = { ...finer };
      return;
    }
    sum.readings += finer.readings;
    if (finer.firstT < sum.firstT) {
      const { firstT, firstImportWh, firstExportWh } = finer;
      Object.assign(sum, { firstT, firstImportWh, firstExportWh });
    }
    if (finer.lastT > sum.lastT) {
      const { lastT, lastImportWh, lastExportWh } = finer;
      Object.assign(sum, { lastT, lastImportWh, lastExportWh });
    }
    addPowers(sum, finer.powerReadings, finer.powerSumW, finer.minPowerW, finer.maxPowerW);
  }
}

function addPowers(sum: Rollup, readings: number, sumW: number, minW: number, maxW: number): void {
  if (readings === 0) return;
  sum.minPowerW = sum.powerReadings === 0 ? minW : Math.min(sum.minPowerW, minW);
  sum.maxPowerW = sum.powerReadings === 0 ? maxW : Math.max(sum.maxPowerW, maxW);
  sum.powerReadings += readings;
  sum.powerSumW += sumW;
}

export function rollupsEqual(a: Rollup, b: Rollup): boolean {
  return KEYS.every((key) => a[key] === b[key]);
}

/** Which rollup a line holds. */
export interface RollupPlace {
  readonly region: string;
  readonly meterId: string;
  readonly epoch: number;
  readonly end: number;
}

/** A rollup's line: all fields, always, so that nothing of an earlier version stays. */
export function rollupLine(place: RollupPlace, rollup: Rollup, version: number): string {
  const fields = KEYS.map((key) => `${ROLLUP_FIELDS[key]}=${rollup[key]}i`);
  const tags = `epoch=${place.epoch},meter=${place.meterId},region=${place.region}`;
  return `rollup,${tags} ${fields.join(",")},version=${version}i ${nanosOf(place.end)}`;
}

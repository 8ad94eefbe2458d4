import { addWh, subWh, type Wh, ZERO_WH } from "../domain/metering/units.ts";
import { table } from "./status.ts";

/** What was found out of a region, each figure from its own source (README, "The demonstration's figures"). */
export interface RegionFigures {
  readonly readingsSent: number;
  readonly publishesSent: number;
  readonly publishesAcked: number;
  readonly appended: number;
  readonly distinct: number;
  readonly recorded: number;
  readonly deadLettered: number;
  readonly refusedReadings: number;
  readonly intervals: number;
  readonly expectedIntervals: number;
  readonly ledgerBatches: number;
  readonly batches: number;
  readonly trueExportWh: Wh;
  readonly creditedWh: Wh;
  readonly settledWh: Wh;
  readonly proofsChecked: number;
  readonly seconds: number;
}

export interface DemoReport {
  readonly regions: Readonly<Record<string, RegionFigures>>;
  readonly total: RegionFigures & { readonly faults: readonly string[] };
}

/** Sums the regions and collects what does not reconcile. */
export function totalOf(
  regions: Readonly<Record<string, RegionFigures>>,
  seconds: number,
): DemoReport["total"] {
  const all = Object.values(regions);
  const count = (figure: (one: RegionFigures) => number) => all.reduce((sum, one) => sum + figure(one), 0);
  const energy = (figure: (one: RegionFigures) => Wh) =>
    all.reduce((sum, one) => addWh(sum, figure(one)), ZERO_WH);
  return {
    readingsSent: count((one) => one.readingsSent),
    publishesSent: count((one) => one.publishesSent),
    publishesAcked: count((one) => one.publishesAcked),
    appended: count((one) => one.appended),
    distinct: count((one) => one.distinct),
    recorded: count((one) => one.recorded),
    deadLettered: count((one) => one.deadLettered),
    refusedReadings: count((one) => one.refusedReadings),
    intervals: count((one) => one.intervals),
    expectedIntervals: count((one) => one.expectedIntervals),
    ledgerBatches: count((one) => one.ledgerBatches),
    batches: count((one) => one.batches),
    trueExportWh: energy((one) => one.trueExportWh),
    creditedWh: energy((one) => one.creditedWh),
    settledWh: energy((one) => one.settledWh),
    proofsChecked: count((one) => one.proofsChecked),
    seconds,
    faults: Object.entries(regions).flatMap(([name, figures]) => faultsOf(name, figures)),
  };
}

/** Every relation that has to hold in a region, and what is wrong where one does not. */
export function faultsOf(name: string, figures: RegionFigures): readonly string[] {
  const relations: [string, number | bigint, number | bigint][] = [
    ["publishes sent, acknowledged", figures.publishesSent, figures.publishesAcked],
    [
      "readings sent, appended + dead-lettered",
      figures.readingsSent,
      figures.appended + figures.deadLettered,
    ],
    ["readings that must be refused, dead-lettered", figures.refusedReadings, figures.deadLettered],
    ["distinct readings in the log, recorded", figures.distinct, figures.recorded],
    ["intervals of the run, sealed", figures.expectedIntervals, figures.intervals],
    ["batches in the ledger, settled on chain", figures.ledgerBatches, figures.batches],
    ["energy exported, credited", figures.trueExportWh, figures.creditedWh],
    ["energy credited, settled", figures.creditedWh, figures.settledWh],
  ];
  const unequal = relations.filter(([, left, right]) => left !== right);
  const faults = unequal.map(([what, left, right]) => `${name}: ${what}: ${left} is not ${right}`);
  return figures.proofsChecked === 0 ? [...faults, `${name}: no proof was checked`] : faults;
}

/** The figures in the form of `--json`. */
function shown(figures: RegionFigures): Record<string, number | string> {
  return {
    readingsSent: figures.readingsSent,
    publishesAcked: figures.publishesAcked,
    appended: figures.appended,
    recorded: figures.recorded,
    deadLettered: figures.deadLettered,
    duplicates: figures.appended - figures.distinct,
    intervals: figures.intervals,
    batches: figures.batches,
    trueExportWh: String(figures.trueExportWh),
    creditedWh: String(figures.creditedWh),
    settledWh: String(figures.settledWh),
    unreconciledWh: String(subWh(figures.trueExportWh, figures.settledWh)),
    proofsChecked: figures.proofsChecked,
    seconds: Math.round(figures.seconds * 10) / 10,
  };
}

/** The report as one JSON line. */
export function reportJson(report: DemoReport): string {
  const regions = Object.entries(report.regions).map(([name, figures]) => [name, shown(figures)]);
  return JSON.stringify({ regions: Object.fromEntries(regions), total: shown(report.total) });
}

/** The report as lines for people. */
export function printReport(report: DemoReport): readonly string[] {
  const rows = [...Object.entries(report.regions), ["total", report.total] as const].map(
    ([name, figures]) => ({
      region: name,
      ...Object.fromEntries(Object.entries(shown(figures)).map(([key, value]) => [key, String(value)])),
    }),
  );
  const { faults } = report.total;
  const verdict =
    faults.length === 0
      ? "every figure reconciles: unreconciled 0 Wh"
      : `${faults.length} figures do not reconcile:`;
  return ["", ...table(rows), "", verdict, ...faults];
}

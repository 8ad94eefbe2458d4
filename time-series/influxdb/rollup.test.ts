import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { RollupSum, rollupsEqual, type RolledReading, type Rollup } from "./rollup.ts";

const SEED = 20_261_121;

const reading: fc.Arbitrary<RolledReading> = fc.record({
  t: fc.integer({ min: 1, max: 60 }),
  seq: fc.oneof(fc.integer({ min: 0, max: 9 }), fc.maxSafeInteger().map(Math.abs)),
  importWh: fc.maxSafeInteger().map(Math.abs),
  exportWh: fc.integer({ min: 0, max: 9 }),
  powerW: fc.option(fc.integer({ min: -2_147_483_647, max: 2_147_483_647 }), { nil: undefined }),
});
const readings = fc.uniqueArray(reading, {
  minLength: 1,
  maxLength: 40,
  selector: ({ t, seq }) => `${t} ${seq}`,
});

/** The definition: readings in order of (t, seq). */
function plain(all: readonly RolledReading[]): Rollup {
  const sorted = all.toSorted((a, b) => a.t - b.t || a.seq - b.seq);
  const [first, last] = [sorted[0]!, sorted.at(-1)!];
  const powers = sorted.map(({ powerW }) => powerW).filter((powerW) => powerW !== undefined);
  return {
    readings: sorted.length,
    firstT: first.t,
    lastT: last.t,
    firstImportWh: first.importWh,
    lastImportWh: last.importWh,
    firstExportWh: first.exportWh,
    lastExportWh: last.exportWh,
    powerReadings: powers.length,
    powerSumW: powers.reduce((sum, powerW) => sum + powerW, 0),
    minPowerW: powers.length === 0 ? 0 : Math.min(...powers),
    maxPowerW: powers.length === 0 ? 0 : Math.max(...powers),
  };
}

function sumOf(all: readonly RolledReading[]): Rollup {
  const sum = new RollupSum();
  for (const one of all) sum.addReading(one);
  return sum.rollup!;
}

test("a bucket does not depend on the order of its readings", () => {
  fc.assert(
    fc.property(readings, (all) => assert.deepEqual(sumOf(all), plain(all))),
    { seed: SEED, numRuns: 1_000 },
  );
});

test("a coarse bucket put together from finer ones, in any order, is the one put together from readings", () => {
  const cut = fc.record({ all: readings, widthS: fc.integer({ min: 1, max: 30 }), isReversed: fc.boolean() });
  fc.assert(
    fc.property(cut, ({ all, widthS, isReversed }) => {
      const finer = [...Map.groupBy(all, ({ t }) => Math.ceil(t / widthS)).values()].map(sumOf);
      const sum = new RollupSum();
      for (const rollup of isReversed ? finer.toReversed() : finer) sum.addRollup(rollup);
      assert.deepEqual(sum.rollup, plain(all));
    }),
    { seed: SEED, numRuns: 1_000 },
  );
});

test("adding to a sum leaves the finer bucket as it is", () => {
  const finer = sumOf([{ t: 5, seq: 1, importWh: 1, exportWh: 0, powerW: 3 }]);
  const sum = new RollupSum();
  sum.addRollup(finer);
  sum.addRollup(sumOf([{ t: 9, seq: 1, importWh: 2, exportWh: 0, powerW: 4 }]));
  assert.deepEqual([finer.readings, finer.lastT, finer.powerSumW], [1, 5, 3]);
});

test("rollups are equal where every figure is", () => {
  const one = sumOf([{ t: 5, seq: 1, importWh: 1, exportWh: 0, powerW: 3 }]);
  assert.ok(rollupsEqual(one, { ...one }));
  for (const key of Object.keys(one) as (keyof Rollup)[])
    assert.ok(!rollupsEqual(one, { ...one, [key]: one[key] + 1 }), key);
});

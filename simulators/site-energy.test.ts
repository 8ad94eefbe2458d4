import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { SiteEnergy } from "./site-energy.ts";
import { connectionPowerW, createSite, peakPowerW, SITE_KINDS, type SiteKind } from "./site.ts";

const SEED = 72;
const START = Date.UTC(2026, 0, 1) / 1000;
const YEAR_S = 365 * 86_400;
const UTC_OFFSET_S = 25_200;

function energyOf(kind: SiteKind, name: string): SiteEnergy {
  return new SiteEnergy({ site: createSite(kind, "test", name), origin: START, utcOffsetS: UTC_OFFSET_S });
}

/** Yearly kWh [import from, to, export per kWp from, to]. */
const PLAUSIBLE: Readonly<Record<SiteKind, readonly [number, number, number, number]>> = {
  household: [1000, 6000, 0, 0],
  shop: [5000, 45_000, 0, 0],
  farm: [3000, 32_000, 300, 1400],
  prosumer: [1000, 5000, 700, 1400],
  prosumerWithStorage: [500, 2500, 400, 1300],
};

for (const kind of SITE_KINDS) {
  test(`a year of a ${kind} is plausible and below its connection's limit`, () => {
    const [importLow, importHigh, exportLow, exportHigh] = PLAUSIBLE[kind];
    for (let index = 0; index < 8; index += 1) {
      const energy = energyOf(kind, `${kind}-${index}`);
      const year = energy.at(START + YEAR_S);
      const importKwh = year.importMilliWh / 1e6;
      const exportKwh = year.exportMilliWh / 1e6;
      const { pvKwp } = energy.site;
      assert.ok(importKwh >= importLow && importKwh <= importHigh, `import ${importKwh} kWh`);
      assert.ok(
        exportKwh >= exportLow * pvKwp && exportKwh <= exportHigh * pvKwp,
        `export ${exportKwh} of ${pvKwp} kWp`,
      );
      assert.ok(connectionPowerW(energy.site) >= 1.1 * peakPowerW(energy.site));
      let highestW = 0;
      for (let t = START; t < START + YEAR_S; t += 900)
        highestW = Math.max(highestW, Math.abs(energy.powerW(t)));
      assert.ok(highestW <= peakPowerW(energy.site), `${highestW} W`);
    }
  });
}

const anyKind = fc.constantFrom(...SITE_KINDS);
const anyInstant = fc.integer({ min: START, max: START + 60 * 86_400 });

test("energy never falls with time", () => {
  fc.assert(
    fc.property(
      anyKind,
      fc.nat(20),
      anyInstant,
      fc.integer({ min: 0, max: 5000 }),
      (kind, name, t, later) => {
        const energy = energyOf(kind, String(name));
        const before = energy.at(t);
        const after = energy.at(t + later);
        assert.ok(after.importMilliWh >= before.importMilliWh && after.exportMilliWh >= before.exportMilliWh);
        assert.ok(Number.isInteger(after.importMilliWh) && Number.isInteger(after.exportMilliWh));
      },
    ),
    { seed: SEED, numRuns: 60 },
  );
});

test("energy asked for in any order, again and by another instance is the same", () => {
  fc.assert(
    fc.property(anyKind, fc.array(anyInstant, { minLength: 1, maxLength: 20 }), (kind, instants) => {
      const shuffled = energyOf(kind, "x");
      const answers = new Map(instants.map((t) => [t, shuffled.at(t)]));
      const sequential = energyOf(kind, "x");
      for (const t of [...instants].sort((a, b) => a - b)) {
        assert.deepEqual(sequential.at(t), answers.get(t));
        assert.deepEqual(shuffled.at(t), answers.get(t));
      }
    }),
    { seed: SEED, numRuns: 40 },
  );
});

test("a quarter hour's power is the energy that passes in it", () => {
  const energy = energyOf("prosumer", "x");
  for (let t = START; t < START + 86_400; t += 900) {
    const before = energy.at(t);
    const after = energy.at(t + 900);
    const netMilliWh =
      after.importMilliWh - before.importMilliWh - (after.exportMilliWh - before.exportMilliWh);
    assert.ok(Math.abs((netMilliWh * 4) / 1000 - energy.powerW(t)) <= 0.5);
  }
});

test("a plant exports by day and never by night, local time", () => {
  const energy = energyOf("prosumer", "x");
  const midnight = START - UTC_OFFSET_S + 86_400;
  assert.equal(energy.at(midnight + 4 * 3600).exportMilliWh, energy.at(midnight).exportMilliWh);
  assert.ok(energy.at(midnight + 15 * 3600).exportMilliWh > energy.at(midnight + 9 * 3600).exportMilliWh);
});

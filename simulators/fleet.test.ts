import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import fc from "fast-check";
import { isName } from "../domain/metering/topics.ts";
import { subWh, wh, ZERO_WH } from "../domain/metering/units.ts";
import { GridrootError } from "../service/errors.ts";
import {
  commissionRecords,
  createFleet,
  exportedWh,
  type Fleet,
  INTERVAL_S,
  meterAt,
  type SimulatedServicePoint,
  trueExportWh,
} from "./fleet.ts";
import { readingJson, registersAt, type SimulatedMeter } from "./meter.ts";

const SEED = 73;
const START = Date.UTC(2026, 10, 20) / 1000;
const DAY_END = START + 96 * INTERVAL_S;
const REGIONS = [
  { name: "bangkok", utility: "mea" },
  { name: "central", utility: "pea" },
  { name: "northern", utility: "pea" },
];

function fleetOf(options: Partial<Parameters<typeof createFleet>[0]> = {}): Fleet {
  return createFleet({
    seed: "gridroot",
    secretKey: "not a secret",
    regions: REGIONS,
    start: START,
    ...options,
  });
}

function boundaries(): number[] {
  return Array.from({ length: 97 }, (_, index) => START + index * INTERVAL_S);
}

/** Whether the register of a meter falls between two boundaries of the day. */
function wraps(meter: SimulatedMeter, register: "importWh" | "exportWh", end: number): boolean {
  const values = boundaries()
    .filter((t) => t >= meter.installedAt && t <= end)
    .map((t) => registersAt(meter, t)[register]);
  return values.some((value, index) => value < (values[index - 1] ?? ZERO_WH));
}

const fleet = fleetOf();
const inRegion = (region: string): SimulatedServicePoint[] =>
  fleet.servicePoints.filter((point) => point.region === region);

test("the same options give the same fleet, and another seed another", () => {
  const records = commissionRecords(fleet);
  assert.deepEqual(commissionRecords(fleetOf()), records);
  assert.notDeepEqual(commissionRecords(fleetOf({ seed: "other" })), records);
});

test("a fleet has valid and unique names, accounts and devices", () => {
  const records = commissionRecords(fleet);
  assert.equal(records.length, 90);
  assert.equal(new Set(records.map(({ device }) => device.meterId)).size, 90);
  assert.equal(new Set(records.map(({ id }) => id)).size, 90);
  for (const { meter, commission } of fleet.servicePoints) {
    const { servicePoint, account, device, at } = commission;
    assert.ok(isName(servicePoint) && isName(device.meterId));
    assert.match(account, /^0x[0-9a-f]{40}$/);
    assert.equal(at, START);
    assert.deepEqual(registersAt(meter, START), device.initial);
    assert.ok(device.initial.importWh < device.modulusWh && device.initial.exportWh < device.modulusWh);
    assert.equal(createHash("sha256").update(meter.secret).digest("hex"), device.secretSha256);
    assert.ok(Buffer.from(meter.secret, "hex").length >= 16);
  }
});

test("secrets follow from the secret key, not from the seed", () => {
  const other = fleetOf({ secretKey: "another" });
  assert.notEqual(other.servicePoints[0]?.meter.secret, fleet.servicePoints[0]?.meter.secret);
  assert.equal(
    fleetOf({ seed: "other" }).servicePoints[0]?.meter.secret,
    fleet.servicePoints[0]?.meter.secret,
  );
});

test("every region has exporters, accounts with one and with two service points, and one swap", () => {
  for (const { name } of REGIONS) {
    const points = inRegion(name);
    assert.ok(points.filter((point) => exportedWh(point, DAY_END) > 0n).length >= 9);
    const counts = Map.groupBy(points, ({ account }) => account);
    const sizes = new Set([...counts.values()].map(({ length }) => length));
    assert.deepEqual([...sizes].sort(), [1, 2]);
    assert.equal(points.filter(({ swap }) => swap !== undefined).length, 1);
  }
  for (const point of fleetOf({ metersPerRegion: 1 }).servicePoints)
    assert.ok(exportedWh(point, DAY_END) > 0n);
});

test("an export and an import register of each region wrap within the day", () => {
  for (const { name } of REGIONS) {
    for (const register of ["importWh", "exportWh"] as const) {
      assert.ok(
        inRegion(name).some(({ meter }) => wraps(meter, register, DAY_END)),
        `${name} ${register}`,
      );
    }
  }
});

test("a short fleet has its swap and its rollover, too", () => {
  const short = fleetOf({ metersPerRegion: 1, intervals: 8 });
  for (const { meter, swap } of short.servicePoints) {
    assert.ok(swap !== undefined && swap.record.at < START + 6 * INTERVAL_S);
    assert.ok(wraps(meter, "exportWh", swap.record.at));
  }
  assert.equal(
    fleetOf({ intervals: 7 }).servicePoints.every(({ swap }) => swap === undefined),
    true,
  );
});

test("a swap gives the old device's registers and the new one goes on from its own", () => {
  for (const point of fleet.servicePoints) {
    const { swap } = point;
    if (swap === undefined) continue;
    const { at, final, device, meterId } = swap.record;
    assert.ok(at % INTERVAL_S !== 0 && at > START && at < DAY_END - 2 * INTERVAL_S);
    assert.deepEqual(final, registersAt(point.meter, at));
    assert.deepEqual(device.initial, registersAt(swap.meter, at));
    assert.notEqual(device.meterId, meterId);
    assert.equal(meterAt(point, at), point.meter);
    assert.equal(meterAt(point, at + 1), swap.meter);
  }
});

test("registers rise by what the service point exports, modulo the modulus, over swaps", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...fleet.servicePoints),
      fc.integer({ min: START, max: START + 3 * 86_400 }),
      fc.integer({ min: 0, max: 86_400 }),
      (point, from, length) => {
        const meter = meterAt(point, from);
        const to = meterAt(point, from + length) === meter ? from + length : (point.swap?.record.at ?? from);
        const rise = subWh(registersAt(meter, to).exportWh, registersAt(meter, from).exportWh);
        const { modulusWh } = meter.device;
        const exported = subWh(exportedWh(point, to), exportedWh(point, from));
        assert.ok(exported >= 0n);
        assert.equal((rise + modulusWh) % modulusWh, exported);
      },
    ),
    { seed: SEED, numRuns: 300 },
  );
});

test("the truth of a region is the sum of last minus initial registers, unwrapped", () => {
  const truth = trueExportWh(fleet, DAY_END);
  assert.deepEqual([...truth.keys()], ["bangkok", "central", "northern"]);
  let sum = ZERO_WH;
  for (const { meter, swap } of inRegion("central")) {
    const devices =
      swap === undefined
        ? [{ meter, to: DAY_END }]
        : [
            { meter, to: swap.record.at },
            { meter: swap.meter, to: DAY_END },
          ];
    for (const { meter, to } of devices) {
      const { initial, modulusWh } = meter.device;
      const turns = wraps(meter, "exportWh", to) ? modulusWh : ZERO_WH;
      sum = wh(sum + registersAt(meter, to).exportWh + turns - initial.exportWh);
    }
  }
  assert.equal(truth.get("central"), sum);
});

test("a reading is the same to the byte in a simulator that starts anew", () => {
  const point = fleet.servicePoints[3]!;
  const again = fleetOf().servicePoints[3]!;
  for (const t of [DAY_END, START + 1, START + 40_000]) {
    assert.equal(readingJson(again.meter, t), readingJson(point.meter, t));
  }
});

test("a fleet that cannot be is refused", () => {
  for (const options of [{ start: START + 1 }, { metersPerRegion: 0 }, { intervals: 1.5 }]) {
    assert.throws(
      () => fleetOf(options),
      (error) => error instanceof GridrootError && error.code === "fleet-options",
    );
  }
});

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { applyReading, type ReadingOutcome } from "./apply-reading.ts";
import { applyRecord, type RecordOutcome } from "./apply-record.ts";
import { packServicePoint, unpackServicePoint } from "./packed-service-point.ts";
import type { Reading } from "./reading.ts";
import type { Device, RegistryRecord } from "./registry-records.ts";
import { boundaryPoint, creditWh, dropBefore, expectation, type ServicePoint } from "./service-point.ts";
import { wh } from "./units.ts";

const LENGTH_S = 900;
const T0 = 1_795_000_500 - (1_795_000_500 % LENGTH_S);
const MODULUS = 100_000;
const MAX_POWER_W = 11_000;
const place = { offset: 0n, index: 0 };
const registers = (importWh: number, exportWh: number) => ({
  importWh: wh(importWh),
  exportWh: wh(exportWh),
});

function device(meterId: string, initialExportWh = 0): Device {
  return {
    meterId,
    initial: registers(0, initialExportWh),
    modulusWh: wh(MODULUS),
    maxPowerW: MAX_POWER_W,
    secretSha256: "00".repeat(32),
  };
}

const common = { id: "r", servicePoint: "sp" };
const commission = (initialExportWh = 0): RegistryRecord => ({
  ...common,
  type: "commission",
  at: T0,
  utility: "MEA",
  region: "bangkok",
  account: `0x${"0a".repeat(20)}`,
  device: device("m0", initialExportWh),
});

function reading(seq: number, t: number, exportWh: number, more: Partial<Reading> = {}): Reading {
  const shown = registers(0, exportWh);
  return { meterId: "m0", epoch: 0, seq, t: T0 + t, ...shown, status: 0, ...more };
}

function applied(outcome: RecordOutcome): ServicePoint {
  assert.ok(outcome.kind === "applied", outcome.kind === "refused" ? outcome.reason : "");
  return outcome.state;
}

const commissioned = (initialExportWh = 0) =>
  applied(applyRecord(undefined, commission(initialExportWh), LENGTH_S));
const apply = (state: ServicePoint, item: Reading) => applyReading(state, item, place, LENGTH_S);
const reasonOf = (outcome: ReadingOutcome) =>
  outcome.kind === "quarantined" ? outcome.reason : outcome.kind;
const creditAt = (state: ServicePoint, t: number) => {
  const point = boundaryPoint(state, T0 + t);
  return point === undefined ? 0n : creditWh(point);
};

test("credit is the export register less its initial value, and import moves nothing", () => {
  const state = commissioned(40);
  apply(state, reading(1, 900, 140, { importWh: wh(2000) }));
  assert.equal(creditAt(state, 900), 100n);
  assert.equal(creditAt(state, 899), 0n);
});

test("a rollover goes on counting", () => {
  const state = commissioned(MODULUS - 10);
  assert.equal(apply(state, reading(1, 900, 30)).kind, "accepted");
  assert.equal(creditAt(state, 900), 40n);
});

test("a register that goes round many times keeps its sum", () => {
  const state = commissioned();
  let sent = 0;
  for (let i = 1; i <= 200; i += 1) {
    sent += 2_500;
    assert.equal(apply(state, reading(i, i * 900, sent % MODULUS)).kind, "accepted");
    dropBefore(state, T0 + (i - 2) * 900);
  }
  assert.equal(creditAt(state, 200 * 900), BigInt(sent));
});

const misfits: readonly [name: string, item: Reading, reason: string][] = [
  ["a fall that is no rollover", reading(3, 2700, 90, { importWh: wh(50) }), "register-decrease"],
  ["a rise above the physical cap", reading(3, 1801, 5_000, { importWh: wh(50) }), "above-physical-cap"],
  ["an import that falls", reading(3, 2700, 300, { importWh: wh(40) }), "register-decrease"],
  ["an import above the cap", reading(3, 1801, 201, { importWh: wh(9_000) }), "above-physical-cap"],
  ["a late reading above its successor", reading(3, 1000, 201, { importWh: wh(50) }), "register-decrease"],
  ["a late reading below its predecessor", reading(3, 1000, 99, { importWh: wh(50) }), "register-decrease"],
  [
    "a register beyond the modulus",
    reading(3, 2700, MODULUS, { importWh: wh(50) }),
    "register-beyond-modulus",
  ],
  ["a reading before its epoch", reading(3, -1, 0), "before-epoch-start"],
  ["a reading three epochs ahead", reading(3, 2700, 300, { epoch: 3 }), "epoch-too-far-ahead"],
  [
    "a third epoch of a meter not yet known",
    reading(3, 2700, 300, { epoch: 2, meterId: "m9" }),
    "epoch-too-far-ahead",
  ],
  ["the same identity with another content", reading(2, 1800, 201, { importWh: wh(50) }), "equivocation"],
];

for (const [name, item, reason] of misfits) {
  test(`${name} is quarantined and moves nothing`, () => {
    const state = commissioned();
    apply(state, reading(1, 900, 100, { importWh: wh(50) }));
    apply(state, reading(2, 1800, 200, { importWh: wh(50) }));
    assert.equal(reasonOf(apply(state, item)), reason);
    assert.equal(creditAt(state, 9000), 200n);
  });
}

test("the cap is Pmax x dt x 1.1 and 1 Wh for rounding", () => {
  // 11 kW for an hour with the margin are 12,100 Wh.
  assert.equal(reasonOf(apply(commissioned(), reading(1, 3600, 12_101))), "accepted");
  assert.equal(reasonOf(apply(commissioned(), reading(1, 3600, 12_102))), "above-physical-cap");
});

test("a falling register is never taken for a reset to zero", () => {
  const state = commissioned();
  apply(state, reading(1, 900, 1_000));
  assert.equal(reasonOf(apply(state, reading(2, 1800, 400))), "register-decrease");
  assert.equal(creditAt(state, 1800), 1_000n);
  apply(state, reading(3, 2700, 1_500));
  assert.equal(creditAt(state, 2700), 1_500n);
});

test("the same reading again is a duplicate, a repeated snapshot is stale", () => {
  const state = commissioned();
  const first = reading(1, 900, 100, { unknown: { a: 1, b: 2 } });
  assert.equal(apply(state, first).kind, "accepted");
  assert.equal(apply(state, { ...first, unknown: { b: 2, a: 1 } }).kind, "duplicate");
  assert.equal(apply(state, reading(2, 900, 100)).kind, "stale");
  assert.equal(creditAt(state, 900), 100n);
});

test("of equal instants the lowest seq counts, whichever comes first", () => {
  for (const seqs of [
    [5, 7, 6],
    [7, 6, 5],
    [6, 5, 7],
  ]) {
    const state = commissioned();
    for (const seq of seqs) apply(state, reading(seq, 900, 100));
    assert.equal(boundaryPoint(state, T0 + 900)?.seq, 5);
  }
});

test("a swap goes on from the old meter's credit with the new meter's epoch 0", () => {
  const state = commissioned();
  apply(state, reading(900, 900, 100));
  const swap: RegistryRecord = {
    ...common,
    type: "swap",
    at: T0 + 1000,
    meterId: "m0",
    final: registers(0, 120),
    device: device("m1", 7_000),
  };
  applied(applyRecord(state, swap, LENGTH_S));
  assert.equal(creditAt(state, 1000), 120n);
  assert.equal(reasonOf(apply(state, reading(901, 1001, 121))), "after-epoch-end");
  assert.equal(apply(state, reading(1, 1800, 7_030, { meterId: "m1" })).kind, "accepted");
  assert.equal(creditAt(state, 1800), 150n);
  // What the old meter measured before still fits in.
  assert.equal(apply(state, reading(899, 950, 110)).kind, "accepted");
  assert.equal(creditAt(state, 1800), 150n);
});

test("readings of an epoch wait for its opening record, in whatever order they come", () => {
  const state = commissioned();
  apply(state, reading(1, 900, 100));
  assert.equal(apply(state, reading(4, 2700, 15, { epoch: 1 })).kind, "waiting");
  assert.equal(apply(state, reading(4, 2700, 15, { epoch: 1 })).kind, "duplicate");
  assert.equal(reasonOf(apply(state, reading(4, 2700, 16, { epoch: 1 }))), "equivocation");
  assert.equal(apply(state, reading(3, 1800, 5, { epoch: 1 })).kind, "waiting");
  const restored = unpackServicePoint("sp", packServicePoint(state));
  const reset: RegistryRecord = {
    ...common,
    type: "reset",
    at: T0 + 1000,
    meterId: "m0",
    epoch: 0,
    final: registers(0, 110),
    initial: registers(0, 0),
  };
  applied(applyRecord(restored, reset, LENGTH_S));
  assert.equal(creditAt(restored, 1800), 115n);
  assert.equal(creditAt(restored, 2700), 125n);
});

test("at most 32 readings wait", () => {
  const state = commissioned();
  const outcomes = Array.from({ length: 33 }, (_, i) => apply(state, reading(i, 900 + i, i, { epoch: 1 })));
  assert.equal(outcomes.filter(({ kind }) => kind === "waiting").length, 32);
  assert.equal(reasonOf(outcomes[32]!), "too-many-waiting");
});

const closing = { ...common, meterId: "m0", at: T0 + 2000, final: registers(0, 250) };
const refusals: readonly [name: string, record: RegistryRecord, reason: string][] = [
  ["a second commissioning", commission(), "service-point-exists"],
  ["a retirement of another meter", { ...closing, type: "retire", meterId: "m7" }, "meter-not-in-service"],
  [
    "a final register below the readings",
    { ...closing, type: "retire", final: registers(0, 150) },
    "register-decrease",
  ],
  [
    "a final register above the cap",
    { ...closing, type: "retire", final: registers(0, 9_000) },
    "above-physical-cap",
  ],
  ["a closing before readings", { ...closing, type: "retire", at: T0 + 1799 }, "readings-after-closing"],
  ["a closing before the opening", { ...closing, type: "retire", at: T0 - 1 }, "closes-before-it-opens"],
  ["a swap to the same meter", { ...closing, type: "swap", device: device("m0") }, "meter-exists"],
  [
    "a reset of another epoch",
    { ...closing, type: "reset", epoch: 1, initial: registers(0, 0) },
    "epoch-not-open",
  ],
  [
    "a reset beyond the modulus",
    { ...closing, type: "reset", epoch: 0, initial: registers(0, MODULUS) },
    "register-beyond-modulus",
  ],
];

for (const [name, record, reason] of refusals) {
  test(`${name} is refused and changes nothing`, () => {
    const state = commissioned();
    apply(state, reading(1, 1800, 200));
    const before = packServicePoint(state);
    assert.deepEqual(applyRecord(state, record, LENGTH_S), { kind: "refused", reason });
    assert.deepEqual(packServicePoint(state), before);
  });
}

test("a record for a service point that is unknown or retired is refused", () => {
  const retire: RegistryRecord = { ...closing, type: "retire" };
  assert.deepEqual(applyRecord(undefined, retire, LENGTH_S), {
    kind: "refused",
    reason: "service-point-unknown",
  });
  const state = commissioned();
  applied(applyRecord(state, retire, LENGTH_S));
  assert.deepEqual(applyRecord(state, retire, LENGTH_S), {
    kind: "refused",
    reason: "service-point-retired",
  });
  assert.equal(creditAt(state, 2700), 250n);
});

test("a seal waits for a service point that was there from the interval's start and spoke lately", () => {
  const state = commissioned();
  const at = (interval: number) => expectation(state, T0 + interval * 900, LENGTH_S);
  assert.deepEqual([0, 1, 4, 5].map(at), ["not-counting", "waiting", "waiting", "not-counting"]);
  apply(state, reading(1, 1800, 10));
  assert.deepEqual([1, 2, 3, 6, 7].map(at), ["complete", "complete", "waiting", "waiting", "not-counting"]);
  applied(applyRecord(state, { ...closing, type: "retire" }, LENGTH_S));
  assert.deepEqual([2, 3].map(at), ["complete", "not-counting"]);
});

// A life of a service point: steps of time with energy within the cap, some of them ending in a reset or a swap.
// Within an epoch less than one modulus flows, so that any reading alone tells how often the register went round.
const life = fc.record({
  initialExportWh: fc.nat(MODULUS - 1),
  steps: fc.array(
    fc.record({
      dtS: fc.integer({ min: 1, max: 1300 }),
      exportShare: fc.nat(100),
      ends: fc.constantFrom("reading", "reading", "reading", "reading", "reset", "swap"),
    }),
    { minLength: 2, maxLength: 24 },
  ),
});
type Life = typeof life extends fc.Arbitrary<infer T> ? T : never;
interface History {
  readonly events: readonly (Reading | RegistryRecord)[];
  readonly totalWh: bigint;
  readonly lastT: number;
}

function liveThrough({ initialExportWh, steps }: Life): History {
  const events: (Reading | RegistryRecord)[] = [];
  let [meter, epoch, t, seq, closings] = [0, 0, 0, 0, 0];
  let exportWh = initialExportWh;
  let [energyOfEpoch, totalWh] = [0, 0];
  for (const { dtS, exportShare, ends } of steps) {
    const energyWh = Math.floor((Math.floor((MAX_POWER_W * dtS) / 3600) * exportShare) / 100);
    t += dtS;
    if (energyOfEpoch + energyWh < MODULUS) {
      exportWh += energyWh;
      energyOfEpoch += energyWh;
      totalWh += energyWh;
    }
    seq += 1;
    const shown = registers(0, exportWh % MODULUS);
    events.push(reading(seq, t, exportWh % MODULUS, { meterId: `m${meter}`, epoch }));
    if (ends === "reading" || closings === 2) continue;
    closings += 1;
    t += 1;
    const end = { ...common, at: T0 + t, meterId: `m${meter}`, final: shown };
    if (ends === "reset") events.push({ ...end, type: "reset", epoch: epoch++, initial: registers(0, 0) });
    else {
      events.push({ ...end, type: "swap", device: device(`m${++meter}`, 99_990) });
      epoch = 0;
    }
    exportWh = ends === "reset" ? 0 : 99_990;
    energyOfEpoch = 0;
  }
  t += 1;
  events.push(reading(seq + 1, t, exportWh % MODULUS, { meterId: `m${meter}`, epoch }));
  return { events, totalWh: BigInt(totalWh), lastT: t };
}

// What a network does to it: each reading is lost, sent once or more often, and moved; records keep their order.
const fate = fc.array(
  fc.record({
    copies: fc.constantFrom(0, 1, 1, 1, 2, 3),
    delays: fc.array(fc.nat(30), { minLength: 3, maxLength: 3 }),
  }),
  { minLength: 64, maxLength: 64 },
);
type Fate = typeof fate extends fc.Arbitrary<infer T> ? T : never;

const isReading = (event: Reading | RegistryRecord): event is Reading => "seq" in event;

function deliver(events: History["events"], fates: Fate): (Reading | RegistryRecord)[] {
  const arrivals = events.flatMap((event, index) => {
    const { copies, delays } = fates[index]!;
    const count = isReading(event) ? (index === events.length - 1 ? Math.max(1, copies) : copies) : 1;
    return Array.from({ length: count }, (_, copy) => ({
      event,
      at: index + (isReading(event) ? delays[copy]! : 15),
    }));
  });
  return arrivals.sort((a, b) => a.at - b.at).map(({ event }) => event);
}

function step(state: ServicePoint, event: Reading | RegistryRecord): void {
  if (isReading(event))
    assert.notEqual(apply(state, event).kind, "quarantined", "valid data is never set aside");
  else
    for (const { outcome } of releasedBy(applyRecord(state, event, LENGTH_S)))
      assert.equal(outcome.kind, "accepted");
}

function releasedBy(outcome: RecordOutcome) {
  applied(outcome);
  return outcome.kind === "applied" ? outcome.released : [];
}

test("loss, duplication, reordering and restarts at any point never change the final total", () => {
  fc.assert(
    fc.property(life, fate, fc.func(fc.nat(3)), (lived, fates, restarts) => {
      const { events, totalWh, lastT } = liveThrough(lived);
      let state = commissioned(lived.initialExportWh);
      for (const [index, event] of deliver(events, fates).entries()) {
        step(state, event);
        if (restarts(index) === 0) state = unpackServicePoint("sp", packServicePoint(state));
      }
      assert.equal(creditAt(state, lastT), totalWh);
    }),
    { seed: 21, numRuns: 300 },
  );
});

test("a boundary value never falls, and the sums of intervals equal the register difference", () => {
  fc.assert(
    fc.property(life, fate, (lived, fates) => {
      const { events, totalWh, lastT } = liveThrough(lived);
      const state = commissioned(lived.initialExportWh);
      const ends = Array.from({ length: Math.ceil(lastT / LENGTH_S) }, (_, i) => (i + 1) * LENGTH_S);
      let values = ends.map(() => 0n);
      for (const event of deliver(events, fates)) {
        step(state, event);
        const now = ends.map((end) => creditAt(state, end));
        assert.ok(now.every((value, index) => value >= values[index]!));
        values = now;
      }
      const intervals = values.map((value, index) => value - (values[index - 1] ?? 0n));
      assert.equal(
        intervals.reduce((sum, value) => sum + value, 0n),
        totalWh,
      );
      assert.ok(intervals.every((value) => value >= 0n));
    }),
    { seed: 22, numRuns: 300 },
  );
});

test("forgetting what lies before a sealed boundary changes no later boundary value", () => {
  fc.assert(
    fc.property(life, fate, fc.func(fc.nat(4)), (lived, fates, seals) => {
      const { events, lastT } = liveThrough(lived);
      const whole = commissioned(lived.initialExportWh);
      const folded = commissioned(lived.initialExportWh);
      let sealedUntil = 0;
      for (const [index, event] of deliver(events, fates).entries()) {
        step(whole, event);
        step(folded, event);
        if (seals(index) === 0) sealedUntil += LENGTH_S;
        dropBefore(folded, T0 + sealedUntil);
        for (let end = sealedUntil; end <= lastT + LENGTH_S; end += LENGTH_S) {
          assert.deepEqual(boundaryPoint(folded, T0 + end), boundaryPoint(whole, T0 + end));
        }
      }
    }),
    { seed: 23, numRuns: 200 },
  );
});

test("a packed state is read back whole, and nothing else is read", () => {
  fc.assert(
    fc.property(life, fate, (lived, fates) => {
      const state = commissioned(lived.initialExportWh);
      for (const event of deliver(liveThrough(lived).events, fates)) {
        step(state, event);
        assert.deepEqual(unpackServicePoint("sp", packServicePoint(state)), state);
      }
    }),
    { seed: 24, numRuns: 100 },
  );
  const packed = packServicePoint(commissioned());
  assert.throws(() => unpackServicePoint("sp", packed.subarray(0, -1)), RangeError);
  assert.throws(() => unpackServicePoint("sp", new Uint8Array([...packed, 0])), RangeError);
  assert.throws(() => unpackServicePoint("sp", new Uint8Array([2, ...packed.subarray(1)])), RangeError);
});

test("a state of any size is packed whole", () => {
  const state = commissioned();
  for (let i = 1; i <= 700; i += 1) {
    apply(state, reading(i, i * LENGTH_S, i));
    if (i > 240) assert.deepEqual(unpackServicePoint("sp", packServicePoint(state)), state);
  }
});

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { applyReading } from "../domain/metering/apply-reading.ts";
import { applyRecord } from "../domain/metering/apply-record.ts";
import { checkClock, decodeReadings } from "../domain/metering/codec.ts";
import { creditWh, type ServicePoint } from "../domain/metering/service-point.ts";
import { parseUpstreamTopic } from "../domain/metering/topics.ts";
import { DEMO_FAULT_RATES, INTERVAL_FAULTS, NO_FAULT_RATES, outagesOf } from "./faults.ts";
import { createFleet, exportedWh, type Fleet, INTERVAL_S, meterAt } from "./fleet.ts";
import type { PublishAction } from "./messages.ts";
import { registersAt } from "./meter.ts";
import { type Action, LAST_MESSAGE_AFTER_S, Schedule } from "./schedule.ts";

const SEED = 74;
const START = Date.UTC(2026, 10, 20) / 1000;
const REGIONS = ["bangkok", "central", "northern", "northeastern", "eastern", "western", "southern"].map(
  (name) => ({
    name,
    utility: name === "bangkok" ? "mea" : "pea",
  }),
);

interface Run {
  readonly fleet: Fleet;
  readonly schedule: Schedule;
  readonly ends: readonly number[];
  readonly lastEnd: number;
}

function runOf(options: {
  seed?: string;
  metersPerRegion?: number;
  intervals?: number;
  regions?: number;
}): Run {
  const { seed = "gridroot", metersPerRegion = 30, intervals = 96, regions = 7 } = options;
  const fleet = createFleet({
    seed,
    secretKey: "not a secret",
    regions: REGIONS.slice(0, regions),
    start: START,
    metersPerRegion,
    intervals,
  });
  const lastEnd = START + intervals * INTERVAL_S;
  const schedule = new Schedule({ fleet, rates: DEMO_FAULT_RATES, lastEnd });
  const ends = Array.from({ length: intervals }, (_, index) => START + (index + 1) * INTERVAL_S);
  return { fleet, schedule, ends, lastEnd };
}

const demo = runOf({});
const demoActions = new Map(demo.ends.map((end) => [end, demo.schedule.actions(end)]));
const published = (actions: readonly Action[]): PublishAction[] =>
  actions.filter((action) => action.type === "publish" && action.kind !== "lost") as PublishAction[];

test("every kind of fault strikes in the demo's day", () => {
  const kinds = new Map<string, number>();
  for (const action of [...demoActions.values()].flat()) {
    const kind = action.type === "swap" ? "swap" : action.kind;
    kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
  }
  for (const kind of ["regular", "backlog", "swap", ...INTERVAL_FAULTS]) {
    assert.ok((kinds.get(kind) ?? 0) >= 7, `${kind}: ${kinds.get(kind)}`);
  }
});

test("a schedule made anew repeats an interval to the byte, in any order", () => {
  const again = runOf({});
  for (const end of demo.ends.toReversed().filter((_, index) => index % 7 === 0)) {
    const strip = (actions: readonly Action[]): unknown[] =>
      actions.map((action) =>
        action.type === "swap"
          ? action.record
          : [action.at, action.topic, action.payload, action.meter.meterId],
      );
    assert.deepEqual(strip(again.schedule.actions(end)), strip(demoActions.get(end) ?? []));
  }
});

test("events come in the order of time and within reach of their interval", () => {
  for (const [end, actions] of demoActions) {
    for (const [index, { at }] of actions.entries()) {
      assert.ok(at > end - INTERVAL_S && at <= end + LAST_MESSAGE_AFTER_S);
      assert.ok(at >= (actions[index - 1]?.at ?? 0));
    }
  }
});

test("what must be refused is refused by codec, clock check or topic, and nothing else is", () => {
  for (const [end, actions] of demoActions) {
    for (const { meter, topic, payload, refused, readings, kind } of published(actions)) {
      const { utility, region, meterId } = meter;
      const decoded = decodeReadings(meterId, Buffer.from(payload));
      const isOwnTopic = topic === `mt/v1/${utility}/${region}/${meterId}/rd`;
      assert.ok(parseUpstreamTopic(topic) !== undefined);
      const clocks = decoded.ok
        ? decoded.readings.map((reading) => checkClock(reading, end + LAST_MESSAGE_AFTER_S))
        : [];
      const isAccepted = isOwnTopic && decoded.ok && clocks.every((fault) => fault === undefined);
      assert.equal(isAccepted, !refused, `${kind} ${payload.toString()}`);
      if (isAccepted) assert.equal(decoded.readings.length, readings);
    }
  }
});

test("the last two intervals are free of faults and end with a snapshot of every meter at the last boundary", () => {
  for (const end of [demo.lastEnd - INTERVAL_S, demo.lastEnd]) {
    assert.ok(
      (demoActions.get(end) ?? []).every((action) => action.type === "publish" && action.kind === "regular"),
    );
  }
  const lastOf = new Map<string, PublishAction>();
  for (const action of published([...demoActions.values()].flat())) lastOf.set(action.meter.meterId, action);
  for (const point of demo.fleet.servicePoints) {
    const meter = meterAt(point, demo.lastEnd);
    const last = lastOf.get(meter.meterId);
    const decoded = decodeReadings(meter.meterId, Buffer.from(last?.payload ?? ""));
    assert.ok(decoded.ok);
    const reading = decoded.readings.at(-1);
    assert.equal(reading?.t, demo.lastEnd);
    assert.equal(reading.exportWh, registersAt(meter, demo.lastEnd).exportWh);
    assert.equal(reading.status, 0);
  }
});

test("a reading's identity is used for one content only", () => {
  const contents = new Map<string, string>();
  for (const { meter, payload, refused } of published([...demoActions.values()].flat())) {
    if (refused) continue;
    const parsed = JSON.parse(payload.toString()) as { seq: number } | { seq: number }[];
    for (const reading of Array.isArray(parsed) ? parsed : [parsed]) {
      const identity = `${meter.meterId} ${reading.seq}`;
      const content = JSON.stringify(reading);
      assert.equal(contents.get(identity) ?? content, content);
      contents.set(identity, content);
    }
  }
});

test("without fault rates there are rollovers and swaps only", () => {
  const schedule = new Schedule({ fleet: demo.fleet, rates: NO_FAULT_RATES });
  const actions = demo.ends.flatMap((end) => schedule.actions(end));
  assert.ok(actions.every((action) => action.type === "swap" || action.kind === "regular"));
  assert.equal(actions.filter(({ type }) => type === "swap").length, 7);
});

test("outages stay within their block of intervals", () => {
  fc.assert(
    fc.property(fc.string(), fc.nat(50), fc.integer({ min: 1, max: 200 }), (seed, block, length) => {
      for (const { first, last } of outagesOf(seed, block, length)) {
        assert.ok(first >= block * length + 3 && last <= (block + 1) * length - 3 && last > first);
      }
    }),
    { seed: SEED },
  );
});

/** The credit that the rules of domain/metering find in what is published, as ingest and aggregator would. */
function creditOf({ fleet, schedule, ends }: Run): ReadonlyMap<string, bigint> {
  const states = new Map<string, ServicePoint>();
  const servicePointOf = new Map<string, string>();
  for (const { servicePoint, commission, meter, swap } of fleet.servicePoints) {
    const outcome = applyRecord(undefined, commission, INTERVAL_S);
    assert.equal(outcome.kind, "applied");
    states.set(servicePoint, outcome.state);
    servicePointOf.set(meter.meterId, servicePoint);
    if (swap !== undefined) servicePointOf.set(swap.meter.meterId, servicePoint);
  }
  for (const action of ends.flatMap((end) => schedule.actions(end))) {
    if (action.type === "swap") {
      const outcome = applyRecord(states.get(action.record.servicePoint), action.record, INTERVAL_S);
      assert.equal(outcome.kind, "applied");
      states.set(action.record.servicePoint, outcome.state);
    } else if (action.kind !== "lost" && !action.refused) {
      const { meterId } = action.meter;
      const state = states.get(servicePointOf.get(meterId) ?? "");
      const decoded = decodeReadings(meterId, Buffer.from(action.payload));
      assert.ok(decoded.ok && state !== undefined);
      for (const [index, reading] of decoded.readings.entries()) {
        applyReading(state, reading, { offset: 0n, index }, INTERVAL_S);
      }
    }
  }
  return new Map(
    [...states].map(([servicePoint, { points }]) => {
      const last = points.at(-1);
      return [servicePoint, last === undefined ? 0n : creditWh(last)];
    }),
  );
}

function assertReconciles(run: Run): void {
  const credits = creditOf(run);
  for (const point of run.fleet.servicePoints) {
    assert.equal(credits.get(point.servicePoint), exportedWh(point, run.lastEnd), point.servicePoint);
  }
}

test("the demo's day reconciles to the Wh by the rules of validation, in spite of all faults", () => {
  assertReconciles(demo);
});

test("so does any fleet of any length", () => {
  fc.assert(
    fc.property(
      fc.string(),
      fc.integer({ min: 1, max: 8 }),
      fc.integer({ min: 1, max: 40 }),
      (seed, metersPerRegion, intervals) =>
        assertReconciles(runOf({ seed, metersPerRegion, intervals, regions: 2 })),
    ),
    { seed: SEED, numRuns: 25 },
  );
});

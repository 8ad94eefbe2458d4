import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { drawPlan, type Fault, type PlanOptions, type TargetSpec } from "./plan.ts";

const SEED = 74;

const duration = fc
  .tuple(fc.nat(5000), fc.nat(5000))
  .map(([minMs, moreMs]) => ({ minMs, maxMs: minMs + moreMs }));
const target = fc.record({
  name: fc.stringMatching(/^[a-z]{1,8}$/),
  weight: fc.integer({ min: 1, max: 4 }),
  kinds: fc
    .constantFrom("kill", "kill-again", "pause", "cut")
    .chain((first) =>
      fc
        .record({ kill: duration, pause: duration }, { requiredKeys: [] })
        .chain((others) => duration.map((own): TargetSpec["kinds"] => ({ ...others, [first]: own }))),
    ),
});
const options: fc.Arbitrary<PlanOptions> = fc.record({
  seed: fc.string(),
  faults: fc.integer({ min: 0, max: 120 }),
  targets: fc.uniqueArray(target, { minLength: 1, maxLength: 12, selector: ({ name }) => name }),
  outages: fc.array(fc.record({ target: fc.constant("influxdb"), forMs: fc.constant(180_000) }), {
    maxLength: 2,
  }),
});

function drawnFaults(given: PlanOptions): readonly Fault[] {
  return drawPlan(given)
    .flatMap(({ faults }) => faults)
    .filter(({ kind }) => kind !== "outage");
}

test("a plan follows from its seed, in whatever order its targets come", () => {
  fc.assert(
    fc.property(options, (given) => {
      assert.deepEqual(drawPlan({ ...given, targets: given.targets.toReversed() }), drawPlan(given));
    }),
    { seed: SEED },
  );
  const targets = [spec("a"), spec("b"), spec("c")];
  const [one, other] = ["1", "2"].map((seed) => drawPlan({ seed, faults: 40, targets, outages: [] }));
  assert.notDeepEqual(one, other);
});

test("a plan holds the faults that were asked for, each within what its target allows", () => {
  fc.assert(
    fc.property(options, (given) => {
      const faults = drawnFaults(given);
      assert.equal(faults.length, given.faults);
      for (const { target, kind, forMs } of faults) {
        const allowed = given.targets.find(({ name }) => name === target)?.kinds[kind];
        assert.ok(allowed !== undefined && forMs >= allowed.minMs && forMs <= allowed.maxMs);
      }
    }),
    { seed: SEED },
  );
});

test("two faults of a step strike different targets", () => {
  fc.assert(
    fc.property(options, (given) => {
      for (const { faults } of drawPlan(given)) {
        assert.ok(faults.length === 1 || (faults.length === 2 && faults[0]?.target !== faults[1]?.target));
      }
    }),
    { seed: SEED },
  );
});

test("whole rounds strike every target as often as its weight", () => {
  fc.assert(
    fc.property(options, fc.integer({ min: 1, max: 3 }), (given, rounds) => {
      const round = given.targets.reduce((sum, { weight }) => sum + weight, 0);
      const struck = drawnFaults({ ...given, faults: round * rounds }).map(({ target }) => target);
      for (const { name, weight } of given.targets) {
        assert.equal(struck.filter((one) => one === name).length, weight * rounds);
      }
    }),
    { seed: SEED },
  );
});

test("an outage that was asked for strikes alone, and the pipeline recovers before it and after it", () => {
  fc.assert(
    fc.property(options, (given) => {
      const plan = drawPlan(given);
      const begins = plan.findIndex(({ faults }) => faults.some(({ kind }) => kind === "outage"));
      assert.ok(begins <= 0 || plan[begins - 1]?.waitsForRecovery);
      const steps = plan.filter(({ faults }) => faults.some(({ kind }) => kind === "outage"));
      assert.deepEqual(
        steps.map(({ faults, waitsForRecovery }) => [faults, waitsForRecovery]),
        given.outages.map((outage) => [[{ ...outage, kind: "outage" }], true]),
      );
    }),
    { seed: SEED },
  );
});

test("a long plan has pairs, and steps that do not wait for recovery", () => {
  const steps = drawPlan({ seed: "1", faults: 100, targets: [spec("a"), spec("b")], outages: [] });
  const share = (condition: (step: (typeof steps)[number]) => boolean): number =>
    steps.filter(condition).length / steps.length;
  assert.ok(share(({ faults }) => faults.length === 2) > 0.1);
  assert.ok(share(({ waitsForRecovery }) => waitsForRecovery) > 0.3);
  assert.ok(share(({ waitsForRecovery }) => !waitsForRecovery) > 0.3);
});

function spec(name: string): TargetSpec {
  return { name, weight: 1, kinds: { kill: { minMs: 0, maxMs: 1000 }, pause: { minMs: 1, maxMs: 9 } } };
}

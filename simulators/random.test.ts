import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { between, integerBetween, keyOf, uniform } from "./random.ts";

const SEED = 71;

test("a draw depends on its key and counters alone", () => {
  const key = keyOf("seed", "bangkok-0001", "load");
  const forwards = Array.from({ length: 100 }, (_, index) => uniform(key, index));
  const backwards = Array.from({ length: 100 }, (_, index) => uniform(key, 99 - index)).reverse();
  assert.deepEqual(forwards, backwards);
  // A changed generator would change every fleet: running simulators would contradict what they sent before.
  assert.deepEqual([keyOf("a", "b"), uniform(1, 2, 3)], [3_909_960_724, 0.9122266764752567]);
});

test("names are kept apart", () => {
  assert.notEqual(keyOf("ab", "c"), keyOf("a", "bc"));
  assert.notEqual(keyOf("a"), keyOf("a", ""));
});

test("draws of neighbouring counters are spread evenly and are not alike", () => {
  for (const draw of [
    (n: number) => uniform(7, n),
    (n: number) => uniform(7, 3, n),
    (n: number) => uniform(keyOf(`meter-${n}`)),
  ]) {
    const draws = Array.from({ length: 20_000 }, (_, n) => draw(n));
    const tenths = Array.from({ length: 10 }, (_, tenth) =>
      draws.filter((u) => Math.floor(u * 10) === tenth),
    );
    for (const { length } of tenths) assert.ok(Math.abs(length - 2000) < 250, `a tenth holds ${length}`);
    const products = draws.slice(1).map((u, index) => (u - 0.5) * ((draws[index] ?? 0) - 0.5));
    const correlation = (12 * products.reduce((sum, product) => sum + product, 0)) / products.length;
    assert.ok(Math.abs(correlation) < 0.03, `neighbours correlate by ${correlation}`);
  }
});

test("scaled draws stay in their range", () => {
  fc.assert(
    fc.property(
      fc.nat(),
      fc.nat(),
      fc.nat(),
      fc.integer({ min: 1, max: 1_000_000 }),
      (key, a, low, width) => {
        const draw = between(key, low, low + width, a);
        assert.ok(draw >= low && draw < low + width);
        const integer = integerBetween(key, low, low + width, a);
        assert.ok(Number.isInteger(integer) && integer >= low && integer <= low + width);
      },
    ),
    { seed: SEED },
  );
});

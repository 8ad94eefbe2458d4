import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { wh } from "../metering/units.ts";
import { type Claim, allot } from "./allotment.ts";

const SEED = 20261102;
const amount = fc.oneof(fc.bigInt(0n, 5n), fc.bigInt(0n, 10n ** 12n)).map(wh);
const claims = fc
  .uniqueArray(fc.integer({ min: 0, max: 99 }), { minLength: 1, maxLength: 20 })
  .chain((names) =>
    fc.tuple(
      ...names.map((name) => fc.record({ account: fc.constant(`0x${name}`), heldWh: amount, newWh: amount })),
    ),
  );
const cap = fc.oneof(fc.bigInt(0n, 50n), fc.bigInt(0n, 10n ** 13n)).map(wh);

function sum(amounts: Iterable<bigint>): bigint {
  return [...amounts].reduce((a, b) => a + b, 0n);
}

test("what is allotted is all that is claimed or the whole cap, and nobody gets more than they claim", () => {
  fc.assert(
    fc.property(claims, cap, (claims: Claim[], capWh) => {
      const result = allot(claims, capWh);
      const claimed = sum(claims.map((claim) => claim.heldWh + claim.newWh));
      assert.equal(sum(result.values()), claimed < capWh ? claimed : capWh);
      for (const claim of claims) {
        const got = result.get(claim.account)!;
        assert.ok(got >= 0n && got <= claim.heldWh + claim.newWh);
      }
    }),
    { seed: SEED, numRuns: 500 },
  );
});

test("the order of the claims changes nothing", () => {
  fc.assert(
    fc.property(claims, cap, fc.nat(), (claims: Claim[], capWh, turn) => {
      const at = turn % claims.length;
      const turned = [...claims.slice(at), ...claims.slice(0, at)].toReversed();
      const result = allot(claims, capWh);
      const other = allot(turned, capWh);
      for (const { account } of claims) assert.equal(other.get(account), result.get(account));
    }),
    { seed: SEED, numRuns: 300 },
  );
});

test("nothing new is served while anything held is not", () => {
  fc.assert(
    fc.property(claims, cap, (claims: Claim[], capWh) => {
      const result = allot(claims, capWh);
      const held = sum(claims.map((claim) => claim.heldWh));
      for (const claim of claims) {
        const got = result.get(claim.account)!;
        if (held >= capWh) assert.ok(got <= claim.heldWh);
        else assert.ok(got >= claim.heldWh);
      }
    }),
    { seed: SEED, numRuns: 500 },
  );
});

test("within a class shares are proportional to less than one watt-hour", () => {
  fc.assert(
    fc.property(claims, cap, (claims: Claim[], capWh) => {
      const fresh = claims.map((claim) => ({ ...claim, heldWh: wh(0) }));
      const wanted = sum(fresh.map((claim) => claim.newWh));
      if (wanted <= capWh) return;
      const result = allot(fresh, capWh);
      for (const claim of fresh) {
        const over = result.get(claim.account)! * wanted - capWh * claim.newWh;
        assert.ok(over < wanted && over > -wanted);
      }
    }),
    { seed: SEED, numRuns: 300 },
  );
});

test("a tie goes to the lower account", () => {
  const tied = ["0xc", "0xa", "0xb"].map((account) => ({ account, heldWh: wh(0), newWh: wh(10) }));
  const result = allot(tied, wh(11));
  assert.deepEqual(
    [result.get("0xa"), result.get("0xb"), result.get("0xc")],
    [4n, 4n, 3n],
    "11 Wh over three equal claims",
  );
});

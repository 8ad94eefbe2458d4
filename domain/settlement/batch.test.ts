import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { wh } from "../metering/units.ts";
import { type BatchInput, type BoundaryValue, buildBatch } from "./batch.ts";
import { type Evidence, decodeEvidence, encodeEvidence } from "./evidence.ts";
import { createHasher } from "./hasher.ts";
import { ZERO_HASH } from "./hex.ts";
import { contentHash } from "./message.ts";
import type { Hex } from "./settlement.ts";

const hasher = await createHasher();
const SEED = 20261103;
const LENGTH_S = 900;

function account(n: number): Hex {
  return `0x${n.toString(16).padStart(40, "0")}`;
}

function boundary(point: number, owner: number, creditWh: bigint, t = 1): BoundaryValue {
  const servicePoint = `sp-${point}`;
  return {
    servicePoint,
    account: account(owner),
    creditWh: wh(creditWh),
    meterId: `m-${point}`,
    epoch: 0,
    seq: t,
    t,
  };
}

function input(interval: number, boundaries: readonly BoundaryValue[], capWh = 1_000_000n): BatchInput {
  const offsets = [
    { partition: 1, nextOffset: 7n },
    { partition: 0, nextOffset: 9n },
  ];
  return {
    ...{ region: 2, round: 0, interval: interval * LENGTH_S, intervalLengthS: LENGTH_S },
    ...{ capWh: wh(capWh), registryVersion: 5n, offsets, boundaries },
  };
}

function figures(evidence: Evidence): bigint[][] {
  return evidence.accounts.map(({ creditWh, debitWh, heldWh }) => [creditWh, debitWh, heldWh]);
}

test("a region's first batch chains to nothing and credits each account's service points", () => {
  const batch = buildBatch(
    hasher,
    undefined,
    input(4, [boundary(2, 7, 30n), boundary(1, 7, 12n), boundary(3, 1, 5n)]),
  );
  assert.deepEqual(
    batch.evidence.accounts.map(({ account, points }) => [account, points.map((p) => p.servicePoint)]),
    [
      [account(1), ["sp-3"]],
      [account(7), ["sp-1", "sp-2"]],
    ],
  );
  assert.deepEqual(figures(batch.evidence), [
    [5n, 0n, 0n],
    [42n, 0n, 0n],
  ]);
  const { content } = batch;
  assert.deepEqual([content.prevInterval, content.prevRoot], [0, ZERO_HASH]);
  assert.deepEqual([content.intervalCreditWh, content.cumulativeCreditWh, content.leafCount], [47n, 47n, 2]);
  assert.equal(batch.contentHash, contentHash(content));
});

test("the next batch chains to it and credits only the difference", () => {
  const first = buildBatch(hasher, undefined, input(4, [boundary(1, 1, 100n)]));
  const second = buildBatch(hasher, first.evidence, input(6, [boundary(1, 1, 140n)]));
  assert.equal(second.content.prevInterval, 4 * LENGTH_S);
  assert.equal(second.content.prevRoot, first.content.root);
  assert.equal(second.evidence.prevDataHash, first.content.dataHash);
  assert.deepEqual([second.content.intervalCreditWh, second.content.cumulativeCreditWh], [40n, 140n]);
});

test("an interval without credit keeps the root and the account", () => {
  const first = buildBatch(hasher, undefined, input(4, [boundary(1, 1, 100n), boundary(2, 2, 10n)]));
  const second = buildBatch(hasher, first.evidence, input(5, []));
  assert.equal(second.content.root, first.content.root);
  assert.equal(second.content.leafCount, 2);
  assert.notEqual(second.contentHash, first.contentHash);
});

test("a service point that is missing keeps its value, one that changes hands starts again for the new account", () => {
  const first = buildBatch(hasher, undefined, input(4, [boundary(1, 1, 100n), boundary(2, 1, 10n)]));
  const second = buildBatch(hasher, first.evidence, input(5, [boundary(2, 1, 11n), boundary(1, 3, 4n)]));
  assert.deepEqual(figures(second.evidence), [
    [111n, 0n, 0n],
    [4n, 0n, 0n],
  ]);
});

test("a fall is a debit and lowers no credit; a rise after it is credit", () => {
  const first = buildBatch(hasher, undefined, input(4, [boundary(1, 1, 100n)]));
  const second = buildBatch(hasher, first.evidence, input(5, [boundary(1, 1, 70n)]));
  const third = buildBatch(hasher, second.evidence, input(6, [boundary(1, 1, 75n)]));
  assert.deepEqual(figures(second.evidence), [[100n, 30n, 0n]]);
  assert.deepEqual([second.content.intervalCreditWh, second.content.cumulativeDebitWh], [0n, 30n]);
  assert.deepEqual(figures(third.evidence), [[105n, 30n, 0n]]);
});

test("what exceeds the cap is held and served before anything new", () => {
  const first = buildBatch(hasher, undefined, input(4, [boundary(1, 1, 300n), boundary(2, 2, 0n)], 100n));
  assert.deepEqual(figures(first.evidence), [
    [100n, 0n, 200n],
    [0n, 0n, 0n],
  ]);
  const second = buildBatch(
    hasher,
    first.evidence,
    input(5, [boundary(1, 1, 300n), boundary(2, 2, 50n)], 100n),
  );
  assert.deepEqual(figures(second.evidence), [
    [200n, 0n, 100n],
    [0n, 0n, 50n],
  ]);
  const third = buildBatch(hasher, second.evidence, input(8, [], 100n));
  assert.deepEqual(
    figures(third.evidence),
    [
      [300n, 0n, 0n],
      [50n, 0n, 0n],
    ],
    "three intervals' caps",
  );
});

test("a fall takes what is held first", () => {
  const first = buildBatch(hasher, undefined, input(4, [boundary(1, 1, 300n)], 100n));
  const second = buildBatch(hasher, first.evidence, input(5, [boundary(1, 1, 150n)], 10n));
  const third = buildBatch(hasher, second.evidence, input(6, [boundary(1, 1, 90n)], 10n));
  assert.deepEqual(figures(second.evidence), [[110n, 0n, 40n]]);
  assert.deepEqual(figures(third.evidence), [[110n, 20n, 0n]]);
});

test("input that no batch can be built from is refused by its code", () => {
  const first = buildBatch(hasher, undefined, input(4, [boundary(1, 1, 1n)])).evidence;
  const ok = input(5, [boundary(1, 1, 1n)]);
  const value = boundary(1, 1, 1n);
  const cases: [string, Evidence | undefined, BatchInput][] = [
    ["no-service-points", undefined, input(4, [])],
    ["duplicate-service-point", first, input(5, [value, value])],
    ["interval-not-aligned", first, { ...ok, interval: 5 * LENGTH_S + 1 }],
    ["interval-not-after-previous", first, input(4, [value])],
    ["previous-differs", first, { ...ok, region: 3 }],
    ["previous-differs", first, { ...ok, intervalLengthS: 300 }],
    ["malformed-offsets", first, { ...ok, offsets: [ok.offsets[0]!, ok.offsets[0]!] }],
    ["malformed-boundary-value", first, input(5, [{ ...value, creditWh: wh(-1) }])],
    ["malformed-boundary-value", first, input(5, [{ ...value, account: "0xAB" }])],
    ["malformed-boundary-value", first, input(5, [{ ...value, servicePoint: "a b" }])],
    ["malformed-boundary-value", first, input(5, [{ ...value, t: 5 * LENGTH_S + 1 }])],
    ["malformed-boundary-value", first, input(5, [{ ...value, seq: 2 ** 53 }])],
    [
      "energy-overflow",
      first,
      input(5, [{ ...value, creditWh: wh(2n ** 64n - 1n) }, boundary(2, 1, 1n)], 2n ** 63n),
    ],
  ];
  for (const [code, previous, bad] of cases) {
    assert.throws(() => buildBatch(hasher, previous, bad), { code });
  }
});

const run = fc.array(
  fc.record({
    gap: fc.integer({ min: 1, max: 3 }),
    deltas: fc.array(fc.record({ point: fc.integer({ min: 0, max: 5 }), deltaWh: fc.bigInt(-20n, 200n) }), {
      maxLength: 8,
    }),
  }),
  { minLength: 1, maxLength: 12 },
);

test("over any run of batches nothing is lost: credit - debit + held is what the meters counted", () => {
  fc.assert(
    fc.property(run, fc.bigInt(1n, 400n), (steps, capWh) => {
      const values = new Map([[0, 0n]]);
      let previous: Evidence | undefined;
      let interval = 10;
      for (const { gap, deltas } of steps) {
        interval += gap;
        for (const { point, deltaWh } of deltas) {
          const next = (values.get(point) ?? 0n) + deltaWh;
          values.set(point, next < 0n ? 0n : next);
        }
        const boundaries = [...values].map(([point, creditWh]) => boundary(point, point % 3, creditWh));
        const batch = buildBatch(hasher, previous, input(interval, boundaries, capWh));
        const elapsed = previous === undefined ? 1n : BigInt(gap);
        assert.ok(batch.content.intervalCreditWh <= capWh * elapsed);
        const net = figures(batch.evidence).reduce(
          (sum, [credit, debit, held]) => sum + credit! - debit! + held!,
          0n,
        );
        assert.equal(
          net,
          [...values.values()].reduce((a, b) => a + b, 0n),
        );
        for (const before of previous?.accounts ?? []) {
          const now = batch.evidence.accounts.find((candidate) => candidate.account === before.account)!;
          assert.ok(now.creditWh >= before.creditWh && now.debitWh >= before.debitWh);
        }
        previous = batch.evidence;
      }
    }),
    { seed: SEED, numRuns: 150 },
  );
});

test("the order of boundary values and offsets changes no byte", () => {
  const values = [boundary(1, 1, 5n), boundary(2, 1, 6n), boundary(3, 2, 7n)];
  const one = input(4, values, 10n);
  const other = { ...input(4, values.toReversed(), 10n), offsets: one.offsets.toReversed() };
  assert.deepEqual(buildBatch(hasher, undefined, other).file, buildBatch(hasher, undefined, one).file);
});

test("the evidence file is read back as it was written, and no other bytes are read", () => {
  const first = buildBatch(hasher, undefined, input(4, [boundary(1, 1, 5n), boundary(2, 9, 6n)]));
  const { file } = buildBatch(hasher, first.evidence, input(5, [boundary(1, 1, 25n)]));
  assert.deepEqual(encodeEvidence(decodeEvidence(file)), file);
  for (let length = 0; length < file.length; length += 1) {
    assert.throws(() => decodeEvidence(file.subarray(0, length)), { code: "evidence-malformed" });
  }
  assert.throws(() => decodeEvidence(Uint8Array.of(...file, 0)), { code: "evidence-malformed" });
  assert.throws(() => decodeEvidence(file.with(0, 2)), { code: "evidence-malformed" });
});

test("evidence that is unsorted, doubled or out of range is neither written nor read", () => {
  const { evidence } = buildBatch(hasher, undefined, input(4, [boundary(1, 1, 5n), boundary(2, 9, 6n)]));
  const [one, two] = [evidence.accounts[0]!, evidence.accounts[1]!];
  const bad: Partial<Evidence>[] = [
    { accounts: [two, one] },
    { accounts: [one, one] },
    { accounts: [{ ...one, points: [] }] },
    { accounts: [{ ...one, points: [one.points[0]!, one.points[0]!] }] },
    { accounts: [{ ...one, creditWh: wh(2n ** 64n) }] },
    { accounts: [{ ...one, heldWh: wh(-1) }] },
    { offsets: evidence.offsets.toReversed() },
    { region: 2 ** 32 },
    { interval: 2 ** 53 },
  ];
  for (const change of bad) {
    assert.throws(() => encodeEvidence({ ...evidence, ...change }), { code: "evidence-malformed" });
  }
  // The same file with its two accounts exchanged: each is 20 + 3 * 8 + 4 bytes and one point of the same length.
  const file = encodeEvidence(evidence);
  const accountBytes = 48 + 1 + 4 + 8 + 1 + 3 + 4 + 8 + 8;
  const start = file.length - 2 * accountBytes;
  const exchanged = Uint8Array.of(
    ...file.subarray(0, start),
    ...file.subarray(start + accountBytes),
    ...file.subarray(start, start + accountBytes),
  );
  assert.throws(() => decodeEvidence(exchanged), { code: "evidence-malformed" });
});

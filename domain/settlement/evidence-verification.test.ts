import assert from "node:assert/strict";
import { test } from "node:test";
import { wh } from "../metering/units.ts";
import { type BoundaryValue, buildBatch } from "./batch.ts";
import { type Evidence, type EvidenceAccount, dataHash, encodeEvidence } from "./evidence.ts";
import { verifyEvidence } from "./evidence-verification.ts";
import { createHasher } from "./hasher.ts";
import { ZERO_HASH } from "./hex.ts";
import { buildTree } from "./merkle-sum-tree.ts";
import type { SettlementContent } from "./message.ts";
import type { Hex } from "./settlement.ts";

const hasher = await createHasher();
const LENGTH_S = 900;

function boundary(point: number, owner: number, creditWh: bigint): BoundaryValue {
  const account: Hex = `0x${String(owner).padStart(40, "0")}`;
  return {
    servicePoint: `sp-${point}`,
    account,
    creditWh: wh(creditWh),
    meterId: "m",
    epoch: 0,
    seq: 1,
    t: 1,
  };
}

function batch(previous: Evidence | undefined, interval: number, boundaries: readonly BoundaryValue[]) {
  const fixed = { region: 1, round: 0, intervalLengthS: LENGTH_S, capWh: wh(100), registryVersion: 1n };
  return buildBatch(hasher, previous, { ...fixed, interval: interval * LENGTH_S, offsets: [], boundaries });
}

const first = batch(undefined, 4, [boundary(1, 1, 40n), boundary(2, 2, 90n)]);
const second = batch(first.evidence, 5, [boundary(1, 1, 60n), boundary(2, 2, 130n)]);

/** Evidence and settlement that agree with one another, made from a dishonest change of the second batch's. */
function forge(change: Partial<Evidence>): { file: Uint8Array; settlement: SettlementContent } {
  const evidence = { ...second.evidence, ...change };
  const file = encodeEvidence(evidence);
  const tree = buildTree(hasher, evidence.accounts);
  const { region, round, interval, prevInterval, prevRoot } = evidence;
  const settlement = {
    ...{ region, round, interval, prevInterval, prevRoot, root: tree.root, leafCount: tree.leafCount },
    intervalCreditWh: wh(tree.rootSumWh - first.content.cumulativeCreditWh),
    cumulativeCreditWh: tree.rootSumWh,
    cumulativeDebitWh: wh(evidence.accounts.reduce((sum, account) => sum + account.debitWh, 0n)),
    dataHash: dataHash(hasher, file),
  };
  return { file, settlement };
}

function changed(index: number, change: Partial<EvidenceAccount>): Partial<Evidence> {
  const { accounts } = second.evidence;
  return { accounts: accounts.with(index, { ...accounts[index]!, ...change }) };
}

test("honest batches are accepted, the first without a batch before it", () => {
  assert.deepEqual(verifyEvidence(hasher, first.file, undefined, first.content), {
    ok: true,
    evidence: first.evidence,
  });
  const agreed = { intervalLengthS: LENGTH_S, capWh: wh(100) };
  assert.ok(verifyEvidence(hasher, second.file, first.file, second.content, agreed).ok);
});

test("a settlement that says anything else than its file is refused by name", () => {
  const { content } = second;
  const cases: [string, Partial<SettlementContent>][] = [
    ["data-hash-differs", { dataHash: ZERO_HASH }],
    ["header-differs", { region: 2 }],
    ["header-differs", { round: 1 }],
    ["header-differs", { interval: content.interval + LENGTH_S }],
    ["header-differs", { prevInterval: 0 }],
    ["header-differs", { prevRoot: ZERO_HASH }],
    ["leaf-count-differs", { leafCount: 3 }],
    ["credit-sum-differs", { cumulativeCreditWh: wh(content.cumulativeCreditWh + 1n) }],
    ["debit-sum-differs", { cumulativeDebitWh: wh(1) }],
    ["interval-credit-differs", { intervalCreditWh: wh(content.intervalCreditWh - 1n) }],
    ["root-differs", { root: first.content.root }],
  ];
  for (const [reason, change] of cases) {
    const verdict = verifyEvidence(hasher, second.file, first.file, { ...content, ...change });
    assert.deepEqual(verdict, { ok: false, reason }, JSON.stringify(Object.keys(change)));
  }
});

test("a batch that is consistent in itself but wrong against the one before is refused by name", () => {
  const [one, two] = second.evidence.accounts as [EvidenceAccount, EvidenceAccount];
  const cases: [string, Partial<Evidence>][] = [
    ["previous-differs", { prevDataHash: ZERO_HASH }],
    ["previous-differs", { intervalLengthS: 450 }],
    ["account-vanished", { accounts: [two] }],
    ["credit-fell", changed(0, { creditWh: wh(1), heldWh: wh(59) })],
    ["service-point-vanished", changed(0, { points: [{ ...one.points[0]!, servicePoint: "sp-9" }] })],
    ["cap-exceeded", changed(0, { creditWh: wh(one.creditWh + 101n) })],
    ["balance-differs", changed(0, { creditWh: wh(one.creditWh + 1n) })],
    ["balance-differs", changed(1, { heldWh: wh(two.heldWh + 1n) })],
    ["allotment-differs", changed(1, { creditWh: wh(two.creditWh + 1n), debitWh: wh(two.debitWh + 1n) })],
    ["allotment-differs", changed(1, { creditWh: wh(two.creditWh - 1n), heldWh: wh(two.heldWh + 1n) })],
  ];
  for (const [reason, change] of cases) {
    const { file, settlement } = forge(change);
    const verdict = verifyEvidence(hasher, file, first.file, settlement);
    assert.deepEqual(verdict, { ok: false, reason }, JSON.stringify(Object.keys(change)));
  }
});

test("the batch before has to be the right one, and there at all", () => {
  const other = batch(undefined, 4, [boundary(1, 1, 41n), boundary(2, 2, 90n)]);
  const refused = (previousFile: Uint8Array | undefined) =>
    verifyEvidence(hasher, second.file, previousFile, second.content);
  assert.deepEqual(refused(undefined), { ok: false, reason: "previous-missing" });
  assert.deepEqual(refused(other.file), { ok: false, reason: "previous-differs" });
  assert.deepEqual(refused(second.file), { ok: false, reason: "previous-differs" });
  assert.deepEqual(refused(first.file.subarray(1)), { ok: false, reason: "evidence-malformed" });
});

test("a cap or interval length that was not agreed is refused", () => {
  const verify = (capWh: bigint, intervalLengthS: number) =>
    verifyEvidence(hasher, second.file, first.file, second.content, { capWh: wh(capWh), intervalLengthS });
  assert.deepEqual(verify(99n, LENGTH_S), { ok: false, reason: "terms-differ" });
  assert.deepEqual(verify(100n, 300), { ok: false, reason: "terms-differ" });
});

test("a debit that falls is refused", () => {
  const fallen = batch(first.evidence, 5, [boundary(1, 1, 21n)]);
  const third = batch(fallen.evidence, 6, []);
  const [one, ...others] = third.evidence.accounts as [EvidenceAccount, ...EvidenceAccount[]];
  assert.equal(one.debitWh, 10n);
  const evidence = { ...third.evidence, accounts: [{ ...one, debitWh: wh(9) }, ...others] };
  const file = encodeEvidence(evidence);
  const tree = buildTree(hasher, evidence.accounts);
  const settlement = {
    ...third.content,
    ...{ root: tree.root, cumulativeDebitWh: wh(9), dataHash: dataHash(hasher, file) },
  };
  const verdict = verifyEvidence(hasher, file, fallen.file, settlement);
  assert.deepEqual(verdict, { ok: false, reason: "debit-fell" });
});

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import fc from "fast-check";
import { wh } from "../domain/metering/units.ts";
import { verifyMultiproof } from "../domain/settlement/merkle-sum-tree.ts";
import { recordOf } from "../domain/settlement/message.ts";
import type { Hex, Leaf } from "../domain/settlement/settlement.ts";
import { settlementAbi } from "./artifact.ts";
import { contractError } from "./client.ts";
import { type ChainFixture, REGION, startChainFixture } from "./test/chain-fixture.ts";

const SEED = 20_261_121;
const RUNS = 25;
/** What a region is credited more in each run, so that any set of accounts may follow any other. */
const STEP_WH = 100_000_000n;
let fixture: ChainFixture;

before(async () => {
  fixture = await startChainFixture();
});
after(() => fixture.stop());

const accounts = fc.uniqueArray(
  fc
    .bigInt({ min: 1n, max: 2n ** 160n - 1n })
    .map((n) => `0x${n.toString(16).padStart(40, "0")}` satisfies Hex),
  { minLength: 1, maxLength: 150 },
);
const histories = fc.record({
  accounts,
  weights: fc.infiniteStream(fc.nat(1_000)),
  chosen: fc.infiniteStream(fc.boolean()),
  bits: fc.array(fc.nat(), { minLength: 12, maxLength: 12 }),
});

/** Leaves with random credits whose sum is `totalWh`. */
function leavesOf(accounts: readonly Hex[], weights: Iterator<number>, totalWh: bigint): readonly Leaf[] {
  let leftWh = totalWh;
  return accounts.toSorted().map((account, at) => {
    const shareWh =
      at === accounts.length - 1 ? leftWh : (leftWh * BigInt(weights.next().value as number)) / 2_000n;
    leftWh -= shareWh;
    return { account, creditWh: wh(shareWh), debitWh: wh(0n) };
  });
}

test("multiproofs of any accounts are accepted, and refused with any bit flipped", async () => {
  let totalWh = 0n;
  await fc.assert(
    fc.asyncProperty(histories, async ({ accounts, weights, chosen, bits }) => {
      totalWh += STEP_WH;
      const leaves = leavesOf(accounts, weights[Symbol.iterator](), totalWh);
      const { tree, settlement, data } = await fixture.next(leaves);
      await fixture.post(data);
      const choice = chosen[Symbol.iterator]();
      const picked = leaves.map((_, index) => index).filter(() => choice.next().value as boolean);
      const indices = picked.length > 0 ? picked : [leaves.length - 1];
      const subset = indices.map((index) => ({ ...leaves[index]!, index }));
      const { nodes } = tree.multiproofOf(indices);
      const commitment = { root: tree.root, rootSumWh: tree.rootSumWh, leafCount: tree.leafCount };
      assert.ok(verifyMultiproof(fixture.hasher, commitment, subset, nodes));

      const claim = settlementAbi.encode("claimBatch", [REGION, recordOf(settlement), subset, nodes]);
      assert.equal(await answer(claim), "accepted");
      for (const bit of bits) {
        // What comes after the selector: offsets, record, leaves and nodes.
        const flipped = flip(claim, 32 + (bit % ((claim.length - 10) * 4)));
        assert.notEqual(await answer(flipped), "accepted", `bit ${bit}`);
      }
    }),
    { seed: SEED, numRuns: RUNS },
  );
});

async function answer(data: Hex): Promise<string> {
  try {
    await fixture.provider.call({ to: fixture.client.address, data });
    return "accepted";
  } catch (cause) {
    const { code } = contractError(cause);
    assert.notEqual(code, "chain-unavailable");
    return code;
  }
}

function flip(data: Hex, bit: number): Hex {
  const digit = 2 + Math.floor(bit / 4);
  const value = Number.parseInt(data[digit]!, 16) ^ (1 << (bit % 4));
  return `0x${data.slice(2, digit)}${value.toString(16)}${data.slice(digit + 1)}`;
}

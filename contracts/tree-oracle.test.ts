import assert from "node:assert/strict";
import { type TestContext, after, before, test } from "node:test";
import { keccak256 } from "ethers/crypto";
import { solidityPacked } from "ethers/hash";
import { concat, getBytes } from "ethers/utils";
import fc from "fast-check";
import { MerkleTree } from "merkletreejs";
import { wh } from "../domain/metering/units.ts";
import { type IndexedLeaf, type ProofNode, buildTree } from "../domain/settlement/merkle-sum-tree.ts";
import { recordOf } from "../domain/settlement/message.ts";
import type { Hex, Leaf } from "../domain/settlement/settlement.ts";
import { settlementAbi } from "./artifact.ts";
import { contractError } from "./client.ts";
import { type ChainFixture, REGION, startChainFixture } from "./test/chain-fixture.ts";

/**
 * merkletreejs as the oracle: it has the same shape (a lone last node is carried up) and knows nothing of sums, so a node
 * is given to it as 40 bytes, the hash and the sum below it, and only what makes one node of two is ours. Levels,
 * siblings and the order of a multiproof's nodes are its own.
 */

const SEED = 20_261_121;
const RUNS = 40;
const STEP_WH = 1_000_000n;
let fixture: ChainFixture;

before(async () => {
  fixture = await startChainFixture();
});
after(() => fixture.stop());

const forests = fc.record({
  count: fc.integer({ min: 1, max: 70 }),
  weights: fc.infiniteStream(fc.nat(1_000)),
  chosen: fc.infiniteStream(fc.boolean()),
});

test("an independent library has the same roots, proofs and multiproofs, and the contract accepts them", async (t) => {
  // It warns at each multiproof that it would rather have trees of its own shape.
  silence(t);
  let totalWh = 0n;
  await fc.assert(
    fc.asyncProperty(forests, async ({ count, weights, chosen }) => {
      totalWh += STEP_WH;
      const leaves = leavesOf(count, weights[Symbol.iterator](), totalWh);
      const oracle = oracleOf(leaves);
      const { settlement, data } = await fixture.next(leaves);
      assert.deepEqual(nodeOf(oracle.getRoot()), {
        hash: settlement.root,
        sumWh: settlement.cumulativeCreditWh,
      });
      await fixture.post(data);
      const record = recordOf(settlement);
      const tree = buildTree(fixture.hasher, leaves);

      const index = Math.floor(count * 0.7);
      const siblings = oracle.getProof(oracleLeaf(leaves[index]!, index)).map((step) => nodeOf(step.data));
      assert.deepEqual(tree.proofOf(index).siblings, siblings);
      assert.ok(
        await fixture.client.verifyOnChain(REGION, record, { ...leaves[index]!, index }, siblings),
        `leaf ${index} of ${count}`,
      );

      const choice = chosen[Symbol.iterator]();
      const picked = leaves.map((_, at) => at).filter(() => choice.next().value as boolean);
      const indices = picked.length > 0 ? picked : [0];
      const nodes = oracle
        .getMultiProof(indices.map((at) => oracleLeaf(leaves[at]!, at)))
        .map((node) => nodeOf(node));
      assert.deepEqual(tree.multiproofOf(indices).nodes, nodes);
      const subset = indices.map((at) => ({ ...leaves[at]!, index: at }));
      assert.equal(await answer(record, subset, nodes), "accepted", `leaves ${indices.join()} of ${count}`);
    }),
    { seed: SEED, numRuns: RUNS },
  );
});

test("the library accepts our proofs up to 2^k +- 1 leaves", () => {
  for (const count of [1, 2, 3, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257]) {
    const leaves = leavesOf(count, [].values(), BigInt(count));
    const oracle = oracleOf(leaves);
    const tree = buildTree(fixture.hasher, leaves);
    for (const index of new Set([0, count >> 1, count - 1])) {
      const steps = tree.proofOf(index).siblings.map((node) => bytesOf(node));
      const sides = oracle.getProof(oracleLeaf(leaves[index]!, index)).map(({ position }) => position);
      assert.equal(steps.length, sides.length);
      const proof = steps.map((data, at) => ({ data, position: sides[at]! }));
      assert.ok(oracle.verify(proof, oracleLeaf(leaves[index]!, index), oracle.getRoot()));
    }
  }
});

function silence(t: TestContext): void {
  t.mock.method(console, "warn", () => {});
}

/** Leaves with random credits that add up to `totalWh`; the accounts ascend. */
function leavesOf(count: number, weights: Iterator<number>, totalWh: bigint): readonly Leaf[] {
  let leftWh = totalWh;
  return Array.from({ length: count }, (_, at) => {
    const shareWh = at === count - 1 ? leftWh : (leftWh * BigInt(weights.next().value ?? 1)) / 20_000n;
    leftWh -= shareWh;
    const account: Hex = `0x${(0x1001 + at * 257).toString(16).padStart(40, "0")}`;
    return { account, creditWh: wh(shareWh), debitWh: wh(0n) };
  });
}

function oracleOf(leaves: readonly Leaf[]): MerkleTree {
  return new MerkleTree(leaves.map(oracleLeaf), joined);
}

function oracleLeaf(leaf: Leaf, index: number): Buffer {
  const types = ["uint8", "uint32", "address", "uint64", "uint64"];
  const hash = keccak256(solidityPacked(types, [0, index, leaf.account, leaf.creditWh, leaf.debitWh]));
  return bytesOf({ hash: hash as Hex, sumWh: leaf.creditWh });
}

/** What one node of two is: both as the oracle puts them together, 40 bytes each. */
function joined(pair: Buffer): Buffer {
  const [left, right] = [nodeOf(pair.subarray(0, 40)), nodeOf(pair.subarray(40))];
  const types = ["uint8", "bytes32", "bytes32", "uint64", "uint64"];
  const hash = keccak256(solidityPacked(types, [1, left.hash, right.hash, left.sumWh, right.sumWh]));
  return bytesOf({ hash: hash as Hex, sumWh: wh(left.sumWh + right.sumWh) });
}

function bytesOf({ hash, sumWh }: ProofNode): Buffer {
  return Buffer.from(getBytes(concat([hash, solidityPacked(["uint64"], [sumWh])])));
}

function nodeOf(bytes: Buffer): ProofNode {
  assert.equal(bytes.length, 40);
  return { hash: `0x${bytes.toString("hex", 0, 32)}`, sumWh: wh(bytes.readBigUInt64BE(32)) };
}

async function answer(
  record: ReturnType<typeof recordOf>,
  leaves: readonly IndexedLeaf[],
  nodes: readonly ProofNode[],
): Promise<string> {
  const data = settlementAbi.encode("claimBatch", [REGION, record, leaves, nodes]);
  return fixture.provider.call({ to: fixture.client.address, data }).then(
    () => "accepted",
    (cause: unknown) => contractError(cause).code,
  );
}

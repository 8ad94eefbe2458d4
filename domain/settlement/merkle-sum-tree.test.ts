import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { keccak256, solidityPacked } from "ethers";
import { wh } from "../metering/units.ts";
import { createHasher } from "./hasher.ts";
import {
  type IndexedLeaf,
  type ProofNode,
  buildTree,
  verifyMultiproof,
  verifyProof,
} from "./merkle-sum-tree.ts";
import type { Hex, Leaf } from "./settlement.ts";
import { MAX_WH } from "./tree-preimages.ts";

const hasher = await createHasher();
const SEED = 20261101;

function leavesOf(count: number): Leaf[] {
  return Array.from({ length: count }, (_, i) => ({
    account: account(i + 1),
    creditWh: wh((i * 7919) % 1000),
    debitWh: wh(i % 3),
  }));
}

function account(n: number): Hex {
  return `0x${n.toString(16).padStart(40, "0")}`;
}

/** The tree in the words of the specification, by another library: the oracle. */
function slowRoot(leaves: readonly Leaf[]): { hash: string; sum: bigint } {
  let level = leaves.map((leaf, i) => ({
    hash: keccak256(
      solidityPacked(
        ["uint8", "uint32", "address", "uint64", "uint64"],
        [0, i, leaf.account, leaf.creditWh, leaf.debitWh],
      ),
    ),
    sum: leaf.creditWh as bigint,
  }));
  while (level.length > 1) {
    const pairs = Array.from({ length: Math.ceil(level.length / 2) }, (_, i) =>
      level.slice(2 * i, 2 * i + 2),
    );
    level = pairs.map(([left, right]) =>
      right === undefined
        ? left!
        : {
            hash: keccak256(
              solidityPacked(
                ["uint8", "bytes32", "bytes32", "uint64", "uint64"],
                [1, left!.hash, right.hash, left!.sum, right.sum],
              ),
            ),
            sum: left!.sum + right.sum,
          },
    );
  }
  return level[0]!;
}

const COUNTS = [
  ...Array.from({ length: 257 }, (_, i) => i + 1),
  ...[511, 512, 513, 1023, 1024, 1025, 4095, 4097],
];

test("the root is that of the specification for 1 to 257 leaves", () => {
  for (const count of COUNTS.slice(0, 257)) {
    const leaves = leavesOf(count);
    const tree = buildTree(hasher, leaves);
    const expected = slowRoot(leaves);
    assert.equal(tree.root, expected.hash, `${count} leaves`);
    assert.equal(tree.rootSumWh, expected.sum);
  }
});

test("every proof verifies for 1 to 257 leaves and 2^k +- 1, and is as long as its index asks", () => {
  for (const count of COUNTS) {
    const leaves = leavesOf(count);
    const tree = buildTree(hasher, leaves);
    const step = count > 257 ? 97 : 1;
    for (let index = 0; index < count; index += step) checkProof(leaves, tree, index);
    checkProof(leaves, tree, count - 1);
  }
});

function checkProof(leaves: readonly Leaf[], tree: ReturnType<typeof buildTree>, index: number): void {
  const { siblings } = tree.proofOf(index);
  const leaf = { index, ...leaves[index]! };
  assert.ok(verifyProof(hasher, tree, leaf, siblings), `${index} of ${leaves.length}`);
  assert.ok(!verifyProof(hasher, tree, leaf, [...siblings, { hash: tree.root, sumWh: wh(0) }]), "too long");
  if (siblings.length > 0) assert.ok(!verifyProof(hasher, tree, leaf, siblings.slice(0, -1)), "too short");
}

test("a proof with any bit flipped is refused", () => {
  fc.assert(
    fc.property(fc.integer({ min: 2, max: 70 }), fc.nat(), fc.nat(), (count, which, where) => {
      const leaves = leavesOf(count);
      const tree = buildTree(hasher, leaves);
      const index = which % count;
      const leaf = { index, ...leaves[index]! };
      const { siblings } = tree.proofOf(index);
      for (const forged of forgeries(leaf, siblings, where)) {
        assert.ok(!verifyProof(hasher, forged.tree(tree), forged.leaf, forged.siblings), forged.what);
      }
    }),
    { seed: SEED, numRuns: 200 },
  );
});

interface Forgery {
  what: string;
  leaf: IndexedLeaf;
  siblings: readonly ProofNode[];
  tree(tree: ReturnType<typeof buildTree>): { root: Hex; rootSumWh: typeof MAX_WH; leafCount: number };
}

function forgeries(leaf: IndexedLeaf, siblings: readonly ProofNode[], where: number): Forgery[] {
  const bit = 1n << BigInt(where % 64);
  const sibling = where % siblings.length;
  const whole = (tree: ReturnType<typeof buildTree>) => tree;
  const replaced = (node: ProofNode) => siblings.with(sibling, node);
  const old = siblings[sibling]!;
  return [
    { what: "credit", leaf: { ...leaf, creditWh: wh(leaf.creditWh ^ bit) }, siblings, tree: whole },
    { what: "debit", leaf: { ...leaf, debitWh: wh(leaf.debitWh ^ bit) }, siblings, tree: whole },
    { what: "index", leaf: { ...leaf, index: leaf.index ^ (1 << (where % 7)) }, siblings, tree: whole },
    { what: "account", leaf: { ...leaf, account: flip(leaf.account, where) }, siblings, tree: whole },
    {
      what: "sibling's hash",
      leaf,
      siblings: replaced({ ...old, hash: flip(old.hash, where) }),
      tree: whole,
    },
    {
      what: "sibling's sum",
      leaf,
      siblings: replaced({ ...old, sumWh: wh(old.sumWh ^ bit) }),
      tree: whole,
    },
    { what: "root", leaf, siblings, tree: (tree) => ({ ...tree, root: flip(tree.root, where) }) },
    { what: "total", leaf, siblings, tree: (tree) => ({ ...tree, rootSumWh: wh(tree.rootSumWh ^ bit) }) },
  ];
}

function flip(hex: Hex, where: number): Hex {
  const digit = 2 + (where % (hex.length - 2));
  const flipped = (Number.parseInt(hex[digit]!, 16) ^ (1 << (where % 4))).toString(16);
  return `0x${hex.slice(2, digit)}${flipped}${hex.slice(digit + 1)}`;
}

test("any subset of leaves verifies by its multiproof and with no node more, fewer or changed", () => {
  const subsets = fc.integer({ min: 1, max: 130 }).chain((count) =>
    fc.record({
      count: fc.constant(count),
      indices: fc.uniqueArray(fc.integer({ min: 0, max: count - 1 }), { minLength: 1 }),
      where: fc.nat(),
    }),
  );
  fc.assert(
    fc.property(subsets, ({ count, indices, where }) => {
      const leaves = leavesOf(count);
      const tree = buildTree(hasher, leaves);
      const sorted = indices.toSorted((a, b) => a - b);
      const chosen = sorted.map((index) => ({ index, ...leaves[index]! }));
      const { nodes } = tree.multiproofOf(sorted);
      assert.ok(verifyMultiproof(hasher, tree, chosen, nodes));
      assert.ok(!verifyMultiproof(hasher, tree, chosen, [...nodes, { hash: tree.root, sumWh: wh(0) }]));
      if (nodes.length > 0) {
        assert.ok(!verifyMultiproof(hasher, tree, chosen, nodes.slice(0, -1)));
        const i = where % nodes.length;
        const forged = nodes.with(i, { ...nodes[i]!, hash: flip(nodes[i]!.hash, where) });
        assert.ok(!verifyMultiproof(hasher, tree, chosen, forged));
      }
      if (chosen.length > 1) assert.ok(!verifyMultiproof(hasher, tree, chosen.toReversed(), nodes));
    }),
    { seed: SEED, numRuns: 300 },
  );
});

test("a multiproof of nothing or of one leaf twice is refused", () => {
  const tree = buildTree(hasher, leavesOf(4));
  const leaf = { index: 1, ...leavesOf(4)[1]! };
  assert.throws(() => tree.multiproofOf([]), { code: "indices-unsorted" });
  assert.throws(() => tree.multiproofOf([1, 1]), { code: "indices-unsorted" });
  assert.throws(() => tree.multiproofOf([4]), { code: "index-out-of-range" });
  assert.ok(!verifyMultiproof(hasher, tree, [], [{ hash: tree.root, sumWh: tree.rootSumWh }]));
  assert.ok(!verifyMultiproof(hasher, tree, [leaf, leaf], tree.proofOf(1).siblings));
});

test("an inner node does not pass for a leaf, nor a proof for a tree of another size", () => {
  const leaves = leavesOf(5);
  const tree = buildTree(hasher, leaves);
  const four = buildTree(hasher, leaves.slice(0, 4));
  const leaf = { index: 4, ...leaves[4]! };
  assert.deepEqual(
    tree.proofOf(4).siblings,
    [{ hash: four.root, sumWh: four.rootSumWh }],
    "a lone last leaf is carried up and joins the others' root",
  );
  assert.ok(!verifyProof(hasher, { ...tree, leafCount: 6 }, leaf, tree.proofOf(4).siblings));
  assert.ok(!verifyProof(hasher, { ...tree, leafCount: 0 }, leaf, tree.proofOf(4).siblings));
});

test("a total beyond 64 bits, unsorted or doubled accounts and no leaf at all are refused", () => {
  const [first, second] = leavesOf(2) as [Leaf, Leaf];
  assert.throws(() => buildTree(hasher, []), { code: "no-leaves" });
  assert.throws(() => buildTree(hasher, [second, first]), { code: "leaves-unsorted" });
  assert.throws(() => buildTree(hasher, [first, first]), { code: "leaves-unsorted" });
  assert.throws(() => buildTree(hasher, [{ ...first, account: "0xAB" }]), { code: "malformed-hex" });
  const most = { ...first, creditWh: MAX_WH };
  assert.equal(buildTree(hasher, [most]).rootSumWh, MAX_WH);
  const oneMore = { ...second, creditWh: wh(1) };
  assert.throws(() => buildTree(hasher, [most, oneMore]), { code: "energy-overflow" });
  assert.throws(() => buildTree(hasher, [{ ...first, debitWh: wh(MAX_WH + 1n) }]), {
    code: "energy-overflow",
  });
  assert.throws(() => buildTree(hasher, [{ ...first, creditWh: wh(-1) }]), { code: "energy-overflow" });
});

test("a proof whose sums overflow is refused even where the hashes fit", () => {
  const [leaf] = leavesOf(1) as [Leaf];
  const sibling: ProofNode = { hash: buildTree(hasher, [leaf]).root, sumWh: MAX_WH };
  const rich = { index: 0, ...leaf, creditWh: wh(2) };
  const preimage = solidityPacked(
    ["uint8", "bytes32", "bytes32", "uint64", "uint64"],
    [1, buildTree(hasher, [rich]).root, sibling.hash, 2, MAX_WH],
  );
  const root = keccak256(preimage) as Hex;
  assert.ok(!verifyProof(hasher, { root, rootSumWh: wh(1), leafCount: 2 }, rich, [sibling]));
});

test("a proof out of 131,072 leaves verifies", () => {
  const leaves = leavesOf(2 ** 17);
  const tree = buildTree(hasher, leaves);
  assert.ok(verifyProof(hasher, tree, { index: 99_999, ...leaves[99_999]! }, tree.proofOf(99_999).siblings));
});

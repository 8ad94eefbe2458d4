import { type Wh, wh } from "../metering/units.ts";
import { SettlementError } from "./errors.ts";
import type { Keccak } from "./hasher.ts";
import { fromHex, toHex } from "./hex.ts";
import { HASH_BYTES, checkedWh, leafPreimage, nodePreimage } from "./tree-preimages.ts";
import type { Hex, Leaf } from "./settlement.ts";

/**
 * The Merkle sum tree over credit:
 *
 *     leaf = keccak(0x00 | index u32 | account 20 bytes | creditWh u64 | debitWh u64)      sum: creditWh
 *     node = keccak(0x01 | left 32 | right 32 | left sum u64 | right sum u64)              sum: left + right
 *
 * all big-endian. A lone last node of a level is carried up unchanged. The root's sum is what the signed
 * `cumulativeCreditWh` must equal, so a proof also shows that no leaf was credited beside the total.
 */

/** A sibling on a proof's way up, Solidity `Node {bytes32 hash; uint64 sumWh;}`. */
export interface ProofNode {
  readonly hash: Hex;
  readonly sumWh: Wh;
}

/** A leaf with its place, Solidity `Leaf {uint32 index; address account; uint64 creditWh; uint64 debitWh;}`. */
export interface IndexedLeaf extends Leaf {
  readonly index: number;
}

/** What a proof is checked against: the signed root, total and number of leaves. */
export interface TreeCommitment {
  readonly root: Hex;
  readonly rootSumWh: Wh;
  readonly leafCount: number;
}

/** The largest number of leaves, 2^32 - 1. */
export const MAX_LEAVES = 2 ** 32 - 1;

/** A built tree. Hashes and sums of all levels lie in two flat buffers, leaves first. */
export interface MerkleSumTree extends TreeCommitment {
  /** Siblings from the leaf's level upwards. Throws `index-out-of-range`. */
  proofOf(index: number): { readonly siblings: readonly ProofNode[] };
  /**
   * The nodes that a verifier of these leaves cannot compute, level by level, left to right, without flags.
   * Throws `indices-unsorted` unless the indices are strictly ascending and at least one, `index-out-of-range`.
   */
  multiproofOf(indices: readonly number[]): { readonly nodes: readonly ProofNode[] };
}

/**
 * Builds the tree over `leaves`; a leaf's index is its position. Throws `no-leaves`, `too-many-leaves`,
 * `leaves-unsorted` unless accounts are strictly ascending, `energy-overflow` where an amount or the total is
 * negative or above 2^64 - 1, `malformed-hex`.
 */
export function buildTree(hasher: Keccak, leaves: readonly Leaf[]): MerkleSumTree {
  const leafCount = leaves.length;
  if (leafCount === 0) throw new SettlementError("no-leaves", "a tree has at least one leaf");
  if (leafCount > MAX_LEAVES) throw new SettlementError("too-many-leaves", `${leafCount} leaves`);
  const starts = levelStarts(leafCount);
  const nodeCount = starts.at(-1)! + 1;
  const hashes = new Uint8Array(nodeCount * HASH_BYTES);
  const sums = new BigUint64Array(nodeCount);
  hashLeaves(hasher, leaves, hashes, sums);
  for (let level = 1; level < starts.length; level += 1) {
    combineLevel(hasher, hashes, sums, starts[level - 1]!, starts[level]!);
  }
  const nodeAt = (position: number): ProofNode => ({
    hash: toHex(hashes.subarray(position * HASH_BYTES, (position + 1) * HASH_BYTES)),
    sumWh: wh(sums[position]!),
  });
  const root = nodeAt(nodeCount - 1);
  const multiproofOf = (indices: readonly number[]): { nodes: readonly ProofNode[] } => {
    checkIndices(indices, leafCount);
    const nodes: ProofNode[] = [];
    climb(indices, leafCount, {
      combine() {},
      missing: (level, position) => nodes.push(nodeAt(starts[level]! + position)),
    });
    return { nodes };
  };
  return {
    root: root.hash,
    rootSumWh: root.sumWh,
    leafCount,
    proofOf: (index) => ({ siblings: multiproofOf([index]).nodes }),
    multiproofOf,
  };
}

/** Whether the leaf with these siblings lies under the commitment. False, never an error, for anything malformed. */
export function verifyProof(
  hasher: Keccak,
  commitment: TreeCommitment,
  leaf: IndexedLeaf,
  siblings: readonly ProofNode[],
): boolean {
  return verifyMultiproof(hasher, commitment, [leaf], siblings);
}

/**
 * Whether all `leaves` lie under the commitment. They must be at least one and strictly ascending by index;
 * every node of the proof is consumed, in the order of `multiproofOf`. False for anything else.
 */
export function verifyMultiproof(
  hasher: Keccak,
  commitment: TreeCommitment,
  leaves: readonly IndexedLeaf[],
  nodes: readonly ProofNode[],
): boolean {
  try {
    const top = rootOf(hasher, commitment.leafCount, leaves, nodes);
    return toHex(top.hash) === commitment.root && top.sumWh === commitment.rootSumWh;
  } catch (error) {
    if (error instanceof SettlementError) return false;
    throw error;
  }
}

interface Computed {
  readonly hash: Uint8Array;
  readonly sumWh: bigint;
}

function rootOf(
  hasher: Keccak,
  leafCount: number,
  leaves: readonly IndexedLeaf[],
  nodes: readonly ProofNode[],
): Computed {
  const indices = leaves.map((leaf) => leaf.index);
  checkIndices(indices, leafCount);
  const preimage = leafPreimage();
  let computed = leaves.map((leaf): Computed => {
    const hash = hasher.digest(preimage(leaf.index, leaf));
    return { hash, sumWh: leaf.creditWh };
  });
  const node = nodePreimage();
  let consumed = 0;
  let next: Computed[] = [];
  let taken: Computed | undefined;
  climb(indices, leafCount, {
    missing() {
      const given = nodes[consumed];
      if (given === undefined) throw new SettlementError("index-out-of-range", "the proof is too short");
      consumed += 1;
      taken = { hash: fromHex(given.hash, HASH_BYTES), sumWh: checkedWh(given.sumWh) };
    },
    combine(step) {
      const first = computed[step.first]!;
      if (step.kind === "carry") next.push(first);
      else {
        const [left, right] =
          step.kind === "both"
            ? [first, computed[step.first + 1]!]
            : step.kind === "left"
              ? [first, taken!]
              : [taken!, first];
        const sumWh = checkedWh(left.sumWh + right.sumWh);
        next.push({ hash: hasher.digest(node(left.hash, right.hash, left.sumWh, right.sumWh)), sumWh });
      }
      if (step.lastOfLevel) [computed, next] = [next, []];
    },
  });
  if (consumed !== nodes.length) throw new SettlementError("index-out-of-range", "the proof is too long");
  return computed[0]!;
}

/**
 * How one known node of a level gets to the next: carried up alone, joined with the next known one, or joined with
 * a node of the proof, being itself the left or the right one. `first` counts the known nodes of the level.
 */
interface Step {
  readonly kind: "carry" | "both" | "left" | "right";
  readonly first: number;
  readonly lastOfLevel: boolean;
}

/** Walks from the known leaves to the root. `missing` comes before the `combine` that needs that node. */
function climb(
  indices: readonly number[],
  leafCount: number,
  visit: { missing(level: number, position: number): void; combine(step: Step): void },
): void {
  let known = [...indices];
  for (let level = 0, width = leafCount; width > 1; level += 1, width = Math.ceil(width / 2)) {
    const parents: number[] = [];
    for (let first = 0; first < known.length;) {
      const position = known[first]!;
      const both = position % 2 === 0 && known[first + 1] === position + 1;
      const lone = position === width - 1 && width % 2 === 1;
      const kind = lone ? "carry" : both ? "both" : position % 2 === 0 ? "left" : "right";
      if (kind === "left") visit.missing(level, position + 1);
      if (kind === "right") visit.missing(level, position - 1);
      const following = first + (both ? 2 : 1);
      visit.combine({ kind, first, lastOfLevel: following === known.length });
      parents.push(Math.floor(position / 2));
      first = following;
    }
    known = parents;
  }
}

function checkIndices(indices: readonly number[], leafCount: number): void {
  if (!Number.isInteger(leafCount) || leafCount < 1 || leafCount > MAX_LEAVES) {
    throw new SettlementError("index-out-of-range", `not a number of leaves: ${leafCount}`);
  }
  if (indices.length === 0) throw new SettlementError("indices-unsorted", "a proof is for at least one leaf");
  let previous = -1;
  for (const index of indices) {
    if (!Number.isInteger(index) || index < 0 || index >= leafCount) {
      throw new SettlementError("index-out-of-range", `no leaf ${index} among ${leafCount}`);
    }
    if (index <= previous) throw new SettlementError("indices-unsorted", `${index} after ${previous}`);
    previous = index;
  }
}

/** Index of the first node of each level, the root's level last. */
function levelStarts(leafCount: number): readonly number[] {
  const starts = [0];
  for (let width = leafCount; width > 1; width = Math.ceil(width / 2)) starts.push(starts.at(-1)! + width);
  return starts;
}

function hashLeaves(hasher: Keccak, leaves: readonly Leaf[], hashes: Uint8Array, sums: BigUint64Array): void {
  const preimage = leafPreimage();
  let previous = "";
  for (const [index, leaf] of leaves.entries()) {
    if (leaf.account <= previous) {
      throw new SettlementError("leaves-unsorted", `${leaf.account} after ${previous}`);
    }
    previous = leaf.account;
    hashes.set(hasher.digest(preimage(index, leaf)), index * HASH_BYTES);
    sums[index] = leaf.creditWh;
  }
}

function combineLevel(
  hasher: Keccak,
  hashes: Uint8Array,
  sums: BigUint64Array,
  from: number,
  to: number,
): void {
  const preimage = nodePreimage();
  const hashAt = (position: number) => hashes.subarray(position * HASH_BYTES, (position + 1) * HASH_BYTES);
  const width = to - from;
  for (let position = 0; position + 1 < width; position += 2) {
    const left = from + position;
    const parent = to + position / 2;
    const [leftSum, rightSum] = [sums[left]!, sums[left + 1]!];
    const hash = hasher.digest(preimage(hashAt(left), hashAt(left + 1), leftSum, rightSum));
    hashes.set(hash, parent * HASH_BYTES);
    sums[parent] = checkedWh(leftSum + rightSum);
  }
  if (width % 2 === 1) {
    hashes.copyWithin((to + (width - 1) / 2) * HASH_BYTES, (to - 1) * HASH_BYTES, to * HASH_BYTES);
    sums[to + (width - 1) / 2] = sums[to - 1]!;
  }
}

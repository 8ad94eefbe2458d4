import { settlementAbi } from "../../artifact.ts";
import { createHasher } from "../../../domain/settlement/hasher.ts";
import { ZERO_HASH } from "../../../domain/settlement/hex.ts";
import { type MerkleSumTree, buildTree } from "../../../domain/settlement/merkle-sum-tree.ts";
import { recordOf } from "../../../domain/settlement/message.ts";
import { wh } from "../../../domain/metering/units.ts";
import type { Leaf, Settlement } from "../../../domain/settlement/settlement.ts";
import { type WindowChain, memberWallets, signedPost, startWindowChain } from "../window-chain.ts";
import { type GasFigure, figureOf } from "./measure.ts";

const DEPTH = 20;
const LENGTH_S = 900;
const START = 1_800_000_000;
const REGION = 1;
/** Neighbours in the middle of the tree, whose paths to the root are as long as any. */
const NEIGHBOURS = Array.from({ length: 100 }, (_, n) => 500_003 + n);
const ALONE = 700_001;
const STRANGER = 3;

/** What claims cost in a full tree of depth 20, from a region that was claimed from before. */
export async function claimFigures(): Promise<readonly GasFigure[]> {
  const chain = await startWindowChain({
    members: memberWallets(1),
    threshold: 1,
    vetoThreshold: 0,
    windowS: 0,
    intervalLengthS: LENGTH_S,
    startInterval: START,
    regions: [REGION],
    capWh: wh(10n ** 11n),
  });
  try {
    return await measure(chain);
  } finally {
    await chain.stop();
  }
}

async function measure(chain: WindowChain): Promise<readonly GasFigure[]> {
  const hasher = await createHasher();
  let parent: Settlement | undefined;
  const settle = async (creditWh: bigint) => {
    const leaves = leavesWith(creditWh);
    const tree = buildTree(hasher, leaves);
    const settlement = settlementOf(tree, parent);
    await chain.warp(settlement.interval + LENGTH_S);
    await chain.mustSend(await signedPost(chain, [settlement], chain.members));
    parent = settlement;
    const leaf = (index: number) => ({ ...leaves[index]!, index });
    const record = recordOf(settlement);
    return {
      claim: (index: number) => {
        const { siblings } = tree.proofOf(index);
        return chain.mustSend(settlementAbi.encode("claim", [REGION, record, leaf(index), siblings]));
      },
      claimBatch: (indices: readonly number[]) => {
        const { nodes } = tree.multiproofOf(indices);
        const batch = indices.map(leaf);
        return chain.mustSend(settlementAbi.encode("claimBatch", [REGION, record, batch, nodes]));
      },
    };
  };
  const first = await settle(1_234n);
  await first.claim(STRANGER);
  const firstClaim = await first.claim(ALONE);
  const firstBatch = await first.claimBatch(NEIGHBOURS);
  const repeated = await first.claim(ALONE);
  const later = await settle(56_789n);
  await later.claim(STRANGER);
  const laterClaim = await later.claim(ALONE);
  const laterBatch = await later.claimBatch(NEIGHBOURS);
  const { length } = NEIGHBOURS;
  return [
    figureOf("first claim", 50_000, firstClaim),
    figureOf("later claim", 33_000, laterClaim),
    figureOf("claim that mints nothing", null, repeated),
    figureOf("100 neighbours, each, first", 26_500, firstBatch, length),
    figureOf("100 neighbours, each, later", 9_200, laterBatch, length),
  ];
}

function leavesWith(creditWh: bigint): readonly Leaf[] {
  return Array.from({ length: 2 ** DEPTH }, (_, n) => ({
    // Sixteen digits of the golden ratio spread the accounts over all 20 bytes, in ascending order.
    account: `0x${(0x10_0000 + n).toString(16).padStart(8, "1")}${"9e3779b97f4a7c15f39cc0605cedc834".slice(0, 32)}`,
    creditWh: wh(creditWh),
    debitWh: wh(0n),
  }));
}

function settlementOf(tree: MerkleSumTree, parent: Settlement | undefined): Settlement {
  return {
    region: REGION,
    round: 0,
    interval: (parent?.interval ?? START) + LENGTH_S,
    prevInterval: parent?.interval ?? 0,
    prevRoot: parent?.root ?? ZERO_HASH,
    root: tree.root,
    intervalCreditWh: wh(tree.rootSumWh - (parent?.cumulativeCreditWh ?? 0n)),
    cumulativeCreditWh: tree.rootSumWh,
    cumulativeDebitWh: wh(0n),
    leafCount: tree.leafCount,
    dataHash: ZERO_HASH,
    authoritySetEpoch: 1,
  };
}

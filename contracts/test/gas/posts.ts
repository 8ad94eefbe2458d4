import { settlementAbi } from "../../artifact.ts";
import { recordOf } from "../../../domain/settlement/message.ts";
import { wh } from "../../../domain/metering/units.ts";
import { ZERO_HASH } from "../../../domain/settlement/hex.ts";
import type { Hex, Settlement } from "../../../domain/settlement/settlement.ts";
import {
  type WindowChain,
  memberWallets,
  signedPost,
  signedRotation,
  signedVeto,
  startWindowChain,
} from "../window-chain.ts";
import { type GasFigure, executionGas, figureOf } from "./measure.ts";

const LENGTH_S = 900;
const WINDOW_S = 129_600;
const START = 1_800_000_000;
const RING = 256;
const REGIONS = [1, 2, 3, 4, 5];
const CREDIT_WH = 123_456n;

/** What posts, vetoes and rotations cost, with 3 of 5 authorities and a window of 36 hours. */
export async function postFigures(): Promise<readonly GasFigure[]> {
  const members = memberWallets(5);
  const chain = await startWindowChain({
    members,
    threshold: 3,
    vetoThreshold: 2,
    windowS: WINDOW_S,
    intervalLengthS: LENGTH_S,
    startInterval: START,
    regions: REGIONS,
    capWh: wh(10n ** 9n),
  });
  try {
    return await measure(chain);
  } finally {
    await chain.stop();
  }
}

async function measure(chain: WindowChain): Promise<readonly GasFigure[]> {
  const signers = chain.members.slice(0, 3);
  const tips = new Map<number, Settlement>();
  const next = (region: number, intervals = 1): Settlement => {
    const settlement = settlementAfter(tips.get(region), region, intervals);
    tips.set(region, settlement);
    return settlement;
  };
  const post = async (settlements: readonly Settlement[]) =>
    chain.mustSend(await signedPost(chain, settlements, signers));

  // Every region has a tip and one used slot, to which the ring comes back after 256 intervals.
  await chain.warp(START + LENGTH_S * 2);
  await post(REGIONS.map((region) => next(region)));
  await chain.warp(START + LENGTH_S * (RING + 10));
  const fresh = await post([next(1)]);
  const freshTwo = await post([next(2), next(3)]);
  await chain.warp(START + LENGTH_S * (3 * RING));
  await post([next(1, RING - 1), next(2, RING - 1), next(3, RING - 1), next(4, RING - 1), next(5, RING - 1)]);
  await chain.warp(START + LENGTH_S * (5 * RING));
  const warmOne = await post([next(1, RING)]);
  const warmAll = await post([next(2, RING), next(3, RING), next(4, RING), next(5, RING)]);
  const furtherGas = (executionGas(warmAll) - executionGas(warmOne)) / 3;

  const skipped = await chain.mustSend(await signedPost(chain, [tips.get(1)!, next(2)], signers));
  const parent = tips.get(1)!;
  await post([next(1)]);
  const vetoed = tips.get(1)!;
  const signatures = await signedVeto(chain, { epoch: 1, settlement: vetoed }, chain.members.slice(3));
  const veto = await chain.mustSend(settlementAbi.encode("veto", [vetoed, recordOf(parent), signatures]));
  const ruling = await chain.mustSend(settlementAbi.encode("ruleVeto", [1, 0, true]));

  const newMembers = memberWallets(5, 100).map(({ address }) => address);
  const rotation = { epoch: 1, threshold: 3, vetoThreshold: 2, members: newMembers };
  const rotationSignatures = await signedRotation(chain, rotation, signers);
  const proposal = await chain.mustSend(
    settlementAbi.encode("proposeRotation", [rotation, rotationSignatures]),
  );
  await chain.warp(chain.nowS() + 2 * WINDOW_S);
  const execution = await chain.mustSend(settlementAbi.encode("executeRotation", [rotation]));
  return [
    figureOf("post 3-of-5, first region, warm", 40_000, warmOne),
    {
      name: "post 3-of-5, each further region, warm",
      gas: Math.round(furtherGas),
      goal: 31_000,
      total: warmAll.gasUsed,
    },
    figureOf("post 3-of-5, first region, fresh slot", null, fresh),
    {
      name: "post 3-of-5, each further region, fresh slot",
      gas: executionGas(freshTwo) - executionGas(fresh),
      goal: null,
      total: freshTwo.gasUsed,
    },
    figureOf("post 3-of-5, two regions of which one is settled already", null, skipped),
    figureOf("veto 2-of-5", null, veto),
    figureOf("ruling on a veto", null, ruling),
    figureOf("rotation, proposed by 3 of 5", null, proposal),
    figureOf("rotation, executed", null, execution),
  ];
}

/** As if everything had grown by a fixed amount: what a post costs does not depend on the tree. */
function settlementAfter(parent: Settlement | undefined, region: number, intervals: number): Settlement {
  const interval = (parent?.interval ?? START) + intervals * LENGTH_S;
  const root = `0x${interval.toString(16).padStart(8, "0").repeat(8)}` satisfies Hex;
  return {
    region,
    round: 0,
    interval,
    prevInterval: parent?.interval ?? 0,
    prevRoot: parent?.root ?? ZERO_HASH,
    root,
    intervalCreditWh: wh(CREDIT_WH),
    cumulativeCreditWh: wh((parent?.cumulativeCreditWh ?? 0n) + CREDIT_WH),
    cumulativeDebitWh: wh((parent?.cumulativeDebitWh ?? 0n) + 1n),
    leafCount: 2 ** 20,
    dataHash: root,
    authoritySetEpoch: 1,
  };
}

import assert from "node:assert/strict";
import { test } from "node:test";
import { encodePost } from "../../contracts/client.ts";
import type { Hex } from "../../domain/settlement/settlement.ts";
import type { BatchKey } from "../../ledger/batches.ts";
import { type SettlementStatus, settlementStatuses } from "../../ledger/settlements.ts";
import { type RegionChain, attest, testRelayer } from "../../tests/support/attested-ledger.ts";
import {
  assertSettledOnce,
  chain,
  pool,
  regions,
  sendRaw,
  start,
  untilSettled,
  url,
} from "../../tests/support/relayed-ledger.ts";
import { settlementCounts } from "../../tests/support/settlement-counts.ts";
import { TEST_AUTHORITIES } from "../../tests/support/test-chain.ts";
import { until } from "../../tests/support/until.ts";
import { signSettlement } from "../signer.ts";
import type { SettlementNotice } from "./relayer.ts";

async function postByStranger(region: RegionChain, position: number): Promise<void> {
  const settlement = { ...region.batches[position]!.content, authoritySetEpoch: 1 };
  const signatures = await Promise.all(
    TEST_AUTHORITIES.slice(1).map(async (signer) => ({
      authority: signer.address,
      signature: await signSettlement(signer, chain.domain, settlement),
    })),
  );
  await sendRaw("stranger", chain.domain.verifyingContract, encodePost(settlement, signatures));
}

test("batches of several regions become final, each once, in its region's order and by its own nonce", async () => {
  for (const region of regions) await region.sealAttested(chain.domain, 6);
  const mined: SettlementNotice[] = [];
  const final: SettlementNotice[] = [];
  await start(
    testRelayer(
      chain,
      { pool, url },
      { maxInFlightPerRegion: 4, maxInFlight: 10 },
      { onMined: (notice) => mined.push(notice), onFinal: (notice) => final.push(notice) },
    ),
  );
  await untilSettled(18);
  await assertSettledOnce();
  assert.equal(mined.length, 18);
  assert.equal(final.length, 18);
  const { transactionHash, blockNumber } = final[0]!;
  assert.partialDeepStrictEqual(await statusOf(final[0]!), { state: "final", transactionHash, blockNumber });
});

test("a batch waits for its kth valid signature, and so do its successors", async () => {
  const [region] = regions as [RegionChain];
  const first = await region.seal();
  await attest(pool, chain.domain, first, TEST_AUTHORITIES.slice(0, 1));
  await region.sealAttested(chain.domain, 1);
  const forged = await signSettlement(TEST_AUTHORITIES[0]!, chain.domain, {
    ...first.content,
    authoritySetEpoch: 1,
  });
  await pool.query(`insert into attestation values (1, 0, $1, $2, 1, $3, null, 0)`, [
    first.content.interval,
    Buffer.from(TEST_AUTHORITIES[1]!.address.slice(2), "hex"),
    Buffer.from(forged.slice(2), "hex"),
  ]);
  await start(testRelayer(chain, { pool, url }, { pollMs: 60_000 }));
  await regions[1]!.sealAttested(chain.domain, 1);
  await untilSettled(1);
  assert.equal((await settlementCounts(pool)).sealed, 2);
  // The third one's notification wakes the relayer long before its next look.
  await attest(pool, chain.domain, first, TEST_AUTHORITIES.slice(2));
  await untilSettled(3);
  await assertSettledOnce();
});

test("what somebody else settled is not sent, and the region goes on after it", async () => {
  const [region] = regions as [RegionChain];
  await region.sealAttested(chain.domain, 3);
  await postByStranger(region, 0);
  await start(testRelayer(chain, { pool, url }));
  await untilSettled(2);
  assert.equal((await settlementCounts(pool))["settled-externally"], 1);
  await assertSettledOnce();
});

test("a stranger who posts between signing and sending costs a failed transaction, no batch", async () => {
  const [region] = regions as [RegionChain];
  await region.sealAttested(chain.domain, 3);
  let fronted = false;
  chain.setGate(async (method, params) => {
    if (method === "eth_sendRawTransaction" && !fronted) {
      fronted = true;
      await postByStranger(region, 0);
    }
    return chain.perform(method, params);
  });
  await start(testRelayer(chain, { pool, url }));
  await untilSettled(3, ["final", "settled-externally"]);
  assert.equal((await settlementCounts(pool))["settled-externally"], 1);
  await assertSettledOnce();
});

test("a batch that the chain would refuse is never sent, and holds up no other region", async () => {
  const [region, other] = regions as [RegionChain, RegionChain];
  const batch = await region.seal();
  // Signed by all, yet above the cap of the contract.
  const content = { ...batch.content, intervalCreditWh: batch.content.intervalCreditWh * 1_000_000n };
  await pool.query(
    "update batch set interval_credit_wh = $1, cumulative_credit_wh = $1 where region_id = 1",
    [content.intervalCreditWh],
  );
  const inflated = { ...content, cumulativeCreditWh: content.intervalCreditWh } as typeof batch.content;
  await attest(pool, chain.domain, { ...batch, content: inflated });
  await other.sealAttested(chain.domain, 1);
  await start(testRelayer(chain, { pool, url }));
  await untilSettled(1);
  await until("the refusal is written down", async () => (await settlementCounts(pool)).reverted === 1);
  const { interval } = batch.content;
  assert.equal((await statusOf({ regionId: 1, round: 0, interval }))!.reason, "contract-cap-exceeded");
  assert.equal((await pool.query("select 1 from attempt")).rowCount, 1);
});

test("nothing is posted while the base fee is above the ceiling", async () => {
  await regions[0]!.sealAttested(chain.domain, 1);
  const asked = { fees: 0, estimates: 0 };
  chain.setGate(async (method, params) => {
    if (method === "eth_maxPriorityFeePerGas") asked.fees += 1;
    if (method === "eth_estimateGas") asked.estimates += 1;
    return chain.perform(method, params);
  });
  await start(testRelayer(chain, { pool, url }, { maxFeeCeilingWei: 1n, pollMs: 10 }));
  await until("the fee was looked at repeatedly", () => asked.fees > 3);
  // Verifying and estimating what cannot be sent would be most of the work.
  assert.equal(asked.estimates, 1);
  assert.equal((await pool.query("select 1 from attempt")).rowCount, 0);
});

test("an estimate made for a used ring slot is enough for a batch that takes a fresh one", async () => {
  await regions[0]!.sealAttested(chain.domain, 2);
  chain.setGate(async (method, params) => {
    const answer = await chain.perform(method, params);
    // Writing a slot that held a record costs 5,000, one that held none 22,100, both with its first access.
    return method === "eth_estimateGas" ? `0x${(BigInt(answer as Hex) - 17_100n).toString(16)}` : answer;
  });
  await start(testRelayer(chain, { pool, url }, { gasMarginPercent: 0 }));
  await untilSettled(2);
  const attempts = await pool.query("select 1 from attempt where not succeeded");
  assert.equal(attempts.rowCount, 0);
});

test("a ledger that was used with another contract is refused", async () => {
  await regions[0]!.sealAttested(chain.domain, 1);
  await start(testRelayer(chain, { pool, url }));
  await untilSettled(1);
  const verifyingContract: Hex = `0x${"ab".repeat(20)}`;
  const other = { ...chain, domain: { ...chain.domain, verifyingContract } };
  const stranger = testRelayer(other, { pool, url });
  await assert.rejects(stranger.start(), { code: "journal-of-another-contract" });
  await stranger.stop();
});

async function statusOf(key: BatchKey): Promise<SettlementStatus | undefined> {
  const [status] = await settlementStatuses(pool, [key]);
  return status;
}

import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { Wallet } from "ethers/wallet";
import { encodePost } from "../../contracts/client.ts";
import { RpcRefusal } from "../../contracts/local-chain/hardhat-node.ts";
import type { Hex } from "../../domain/settlement/settlement.ts";
import { type BatchKey, hexOf } from "../../ledger/batches.ts";
import { type SettlementStatus, settlementStatuses } from "../../ledger/settlements.ts";
import { type Pool, openPool } from "../../service/database.ts";
import { migrate } from "../../service/migrate.ts";
import { RegionChain, attest, testRelayer } from "../../tests/support/attested-ledger.ts";
import { createTestDatabase } from "../../tests/support/postgres.ts";
import { seedRegion } from "../../tests/support/seeded-ledger.ts";
import { settlementCounts } from "../../tests/support/settlement-counts.ts";
import { TEST_AUTHORITIES, type TestChain, startTestChain, testKey } from "../../tests/support/test-chain.ts";
import { until } from "../../tests/support/until.ts";
import { signSettlement } from "../signer.ts";
import type { Relayer, SettlementNotice } from "./relayer.ts";

const REGIONS = [1, 2, 3];
let chain: TestChain;
let clean: string;
let url: string;
let pool: Pool;
let regions: RegionChain[];
let relayer: Relayer | undefined;

before(async () => {
  chain = await startTestChain(REGIONS);
  clean = (await chain.perform("evm_snapshot", [])) as string;
});

after(async () => {
  await chain.stop();
});

beforeEach(async (context) => {
  chain.setGate(chain.perform);
  await chain.perform("evm_revert", [clean]);
  clean = (await chain.perform("evm_snapshot", [])) as string;
  url = await createTestDatabase();
  pool = openPool(
    { connectionString: url, applicationName: "test", maxConnections: 6, schema: "ledger" },
    () => {},
  );
  await migrate(pool, "ledger", new URL("../../ledger/migrations/", import.meta.url));
  for (const region of REGIONS) await seedRegion(pool, region, `region-${region}`);
  regions = REGIONS.map((region) => new RegionChain(pool, region));
  (context as unknown as { after(work: () => Promise<void>): void }).after(async () => {
    await relayer?.stop();
    relayer = undefined;
    await pool.end();
  });
});

async function start(next: Relayer): Promise<void> {
  relayer = next;
  await next.start();
}

async function untilSettled(count: number, states: readonly string[] = ["final"]): Promise<void> {
  await until(`${count} batches are ${states.join(" or ")}`, async () => {
    const counts: Readonly<Record<string, number>> = await settlementCounts(pool);
    return states.reduce((sum, state) => sum + counts[state]!, 0) === count;
  });
}

/** Exactly one accepted settlement for each batch on chain, and no nonce left out. */
async function assertSettledOnce(): Promise<void> {
  const events = await chain.client.readSettled({ fromBlock: 0, toBlock: "latest" });
  const settled = events.map(({ region, round, interval }) => `${region}/${round}/${interval}`);
  const sealed = await pool.query<{ key: string }>(
    "select concat_ws('/', region_id, round, interval_end) as key from batch order by region_id, interval_end",
  );
  assert.deepEqual(settled.toSorted(), sealed.rows.map((row) => row.key).toSorted());
  const nonces = await pool.query<{ first: bigint; next: bigint; count: bigint }>(
    "select min(nonce) as first, max(nonce) + 1 as next, count(*) from attempt",
  );
  const { first, next, count } = nonces.rows[0]!;
  assert.equal(next - first, count);
  const onChain = await chain.provider.getTransactionCount(new Wallet(testKey("relayer")).address);
  assert.equal(BigInt(onChain), next);
}

// One by one: after `evm_revert` the node tells wrong nonces of blocks that `hardhat_mine` made.
async function mine(blocks: number): Promise<void> {
  for (let i = 0; i < blocks; i += 1) await chain.perform("evm_mine", []);
}

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

/** Sends past the gate, so that a gate may call it. */
async function sendRaw(from: string, to: Hex, data: Hex): Promise<void> {
  const wallet = new Wallet(testKey(from));
  const nonce = Number(await chain.perform("eth_getTransactionCount", [wallet.address, "latest"]));
  const fees = { maxFeePerGas: 10n ** 11n, maxPriorityFeePerGas: 10n ** 9n };
  const raw = await wallet.signTransaction({
    ...{ to, data, nonce, chainId: chain.domain.chainId, gasLimit: 300_000n, type: 2 },
    ...fees,
  });
  await chain.perform("eth_sendRawTransaction", [raw]);
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

test("transactions that a reorganisation took off the chain are sent again, the same bytes", async () => {
  const [region] = regions as [RegionChain];
  await region.sealAttested(chain.domain, 3);
  const before = await chain.perform("evm_snapshot", []);
  await start(testRelayer(chain, { pool, url }, { confirmations: 5 }));
  await untilSettled(3, ["mined"]);
  const sent = await hashes();
  await chain.perform("evm_revert", [before]);
  await until("all are on the chain again", async () => {
    const events = await chain.client.readSettled({ fromBlock: 0, toBlock: "latest" });
    return events.length === 3;
  });
  await mine(8);
  await untilSettled(3);
  assert.deepEqual(await hashes(), sent);
  await assertSettledOnce();
});

test("where a reorganisation gave the nonce to another transaction, the batch gets a new one once that is final", async () => {
  const [region] = regions as [RegionChain];
  await region.sealAttested(chain.domain, 1);
  const before = await chain.perform("evm_snapshot", []);
  await start(testRelayer(chain, { pool, url }, { confirmations: 5 }));
  await untilSettled(1, ["mined"]);
  chain.setGate(async (method, params) => {
    if (method === "eth_sendRawTransaction") throw new RpcRefusal(-32000, "on purpose");
    // Nothing is told of the time between the two branches.
    if (method === "eth_blockNumber") await switched.promise;
    return chain.perform(method, params);
  });
  const switched = Promise.withResolvers<void>();
  await chain.perform("evm_revert", [before]);
  await sendRaw("relayer", chain.domain.verifyingContract, "0x");
  switched.resolve();
  await mine(8);
  await until("the first attempt is given up", async () => {
    const first = await pool.query<{ state: string }>("select state from attempt order by nonce limit 1");
    return first.rows[0]!.state === "superseded";
  });
  chain.setGate(chain.perform);
  await untilSettled(1, ["mined"]);
  await mine(8);
  await untilSettled(1);
  await assertSettledOnce();
});

test("a settlement taken for final that the chain has lost is sent again at the next start", async () => {
  const [region] = regions as [RegionChain];
  await region.sealAttested(chain.domain, 2);
  const before = await chain.perform("evm_snapshot", []);
  await start(testRelayer(chain, { pool, url }));
  await untilSettled(2);
  await relayer!.stop();
  const sent = await hashes();
  await chain.perform("evm_revert", [before]);
  await start(testRelayer(chain, { pool, url }));
  await until("both are on the chain again", async () => {
    const events = await chain.client.readSettled({ fromBlock: 0, toBlock: "latest" });
    return events.length === 2;
  });
  await untilSettled(2);
  assert.deepEqual(await hashes(), sent);
  await assertSettledOnce();
});

test("an attempt whose nonce another transaction used is given up, and it and its successors are posted anew", async () => {
  const [region] = regions as [RegionChain];
  await region.sealAttested(chain.domain, 3);
  let fronted = false;
  chain.setGate(async (method, params) => {
    if (method === "eth_sendRawTransaction" && !fronted) {
      fronted = true;
      await sendRaw("relayer", chain.domain.verifyingContract, "0x");
    }
    return chain.perform(method, params);
  });
  await start(testRelayer(chain, { pool, url }));
  await untilSettled(3);
  const states = await pool.query<{ state: string }>("select state from attempt order by nonce");
  assert.deepEqual(
    states.rows.map((row) => row.state),
    ["superseded", "reverted", "reverted", "final", "final", "final"],
  );
  await assertSettledOnce();
});

test("whatever a node does to calls and answers, every batch is settled once", async () => {
  for (const seed of [1, 2, 3]) {
    const random = randomFrom(seed);
    chain.setGate(async (method, params) => {
      const luck = random();
      if (luck < 0.04) throw new RpcRefusal(-32005, "too many requests");
      const answer = await chain.perform(method, params);
      if (method !== "eth_sendRawTransaction") return answer;
      if (luck < 0.3) throw new RpcRefusal(-32000, "internal error");
      if (luck < 0.4) throw new RpcRefusal(-32000, "already known");
      if (luck < 0.5) throw new RpcRefusal(-32000, "nonce too low");
      return answer;
    });
    for (const region of regions) await region.sealAttested(chain.domain, 2);
    const hasty = { pollMs: 10, resendMs: 20, maxBackoffMs: 20, maxInFlightPerRegion: 2 };
    const troubled = testRelayer(chain, { pool, url }, hasty);
    await start(troubled);
    await untilSettled(6 * seed);
    await troubled.stop();
    chain.setGate(chain.perform);
    await assertSettledOnce();
  }
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

async function hashes(): Promise<readonly Hex[]> {
  const result = await pool.query<{ hash: Buffer }>("select hash from attempt_transaction order by hash");
  return result.rows.map((row) => hexOf(row.hash));
}

/** Numbers from [0, 1) that follow from the seed (mulberry32). */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

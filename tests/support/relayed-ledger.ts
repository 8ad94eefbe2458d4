import assert from "node:assert/strict";
import { after, before, beforeEach } from "node:test";
import { Wallet } from "ethers/wallet";
import type { Hex } from "../../domain/settlement/settlement.ts";
import type { Relayer } from "../../rollup-relayer/relayer/relayer.ts";
import { type Pool, openPool } from "../../service/database.ts";
import { migrate } from "../../service/migrate.ts";
import { RegionChain } from "./attested-ledger.ts";
import { createTestDatabase } from "./postgres.ts";
import { seedRegion } from "./seeded-ledger.ts";
import { settlementCounts } from "./settlement-counts.ts";
import { type TestChain, startTestChain, testKey } from "./test-chain.ts";
import { until } from "./until.ts";

const REGIONS = [1, 2, 3];
/** The chain that all tests of the file share; each begins with the contract as deployed. */
export let chain: TestChain;
let clean: string;
/** The test's own ledger. */
export let url: string;
export let pool: Pool;
/** Its regions, by number. */
export let regions: RegionChain[];
/** What `start` started last. */
export let relayer: Relayer | undefined;

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

/** Starts a relayer that the end of the test stops. */
export async function start(next: Relayer): Promise<void> {
  relayer = next;
  await next.start();
}

/** Waits until so many batches are in one of these states. */
export async function untilSettled(count: number, states: readonly string[] = ["final"]): Promise<void> {
  await until(`${count} batches are ${states.join(" or ")}`, async () => {
    const counts: Readonly<Record<string, number>> = await settlementCounts(pool);
    return states.reduce((sum, state) => sum + counts[state]!, 0) === count;
  });
}

/** Exactly one accepted settlement for each batch on chain, and no nonce left out. */
export async function assertSettledOnce(): Promise<void> {
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

/** Sends past the gate, so that a gate may call it. */
export async function sendRaw(from: string, to: Hex, data: Hex): Promise<void> {
  const wallet = new Wallet(testKey(from));
  const nonce = Number(await chain.perform("eth_getTransactionCount", [wallet.address, "latest"]));
  const fees = { maxFeePerGas: 10n ** 11n, maxPriorityFeePerGas: 10n ** 9n };
  const raw = await wallet.signTransaction({
    ...{ to, data, nonce, chainId: chain.domain.chainId, gasLimit: 300_000n, type: 2 },
    ...fees,
  });
  await chain.perform("eth_sendRawTransaction", [raw]);
}

/** One by one: after `evm_revert` the node tells wrong nonces of blocks that `hardhat_mine` made. */
export async function mine(blocks: number): Promise<void> {
  for (let i = 0; i < blocks; i += 1) await chain.perform("evm_mine", []);
}

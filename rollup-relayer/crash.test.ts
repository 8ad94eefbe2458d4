import assert from "node:assert/strict";
import { mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Wallet } from "ethers/wallet";
import { chainProvider, settlementClient } from "../contracts/client.ts";
import { attestationsOf } from "../ledger/attestations.ts";
import { settlementCounts } from "../ledger/settlements.ts";
import { type Pool, openPool } from "../service/database.ts";
import { migrate } from "../service/migrate.ts";
import { RegionChain, testRelayer } from "../tests/support/attested-ledger.ts";
import { createTestDatabase } from "../tests/support/postgres.ts";
import { startProcess, untilDead } from "../tests/support/relaying-process.ts";
import { seedRegion } from "../tests/support/seeded-ledger.ts";
import { openStore, startTestApi, testAuthority } from "../tests/support/test-authority.ts";
import {
  TEST_AUTHORITIES,
  TEST_CHAIN_ID,
  type TestChain,
  deployTestSettlement,
  startTestChain,
  testKey,
} from "../tests/support/test-chain.ts";
import { until } from "../tests/support/until.ts";
import { AUTHORITY_FAULT_POINTS } from "./authority/authority.ts";
import { RELAYER_FAULT_POINTS } from "./relayer/relayer.ts";

/** More seeds by GRIDROOT_TEST_SEEDS=1,2,3. */
const SEEDS = (process.env["GRIDROOT_TEST_SEEDS"] ?? "1,2").split(",").map(Number);
let chain: TestChain;

before(async () => {
  chain = await startTestChain([1, 2, 3]);
});

after(async () => {
  await chain.stop();
});

async function openLedger(): Promise<{ pool: Pool; url: string; regions: RegionChain[] }> {
  const url = await createTestDatabase();
  const options = { connectionString: url, applicationName: "test", maxConnections: 6, schema: "ledger" };
  const pool = openPool(options, () => {});
  await migrate(pool, "ledger", new URL("../ledger/migrations/", import.meta.url));
  for (const region of [1, 2]) await seedRegion(pool, region, `region-${region}`);
  return { pool, url, regions: [1, 2].map((region) => new RegionChain(pool, region)) };
}

async function assertSettledOnce(
  pool: Pool,
  on: Pick<TestChain, "client" | "provider">,
  firstNonce: number,
): Promise<void> {
  const events = await on.client.readSettled({ fromBlock: 0, toBlock: "latest" });
  const sealed = await pool.query<{ key: string }>(
    "select concat_ws('/', region_id, round, interval_end) as key from batch",
  );
  assert.deepEqual(
    events.map(({ region, round, interval }) => `${region}/${round}/${interval}`).toSorted(),
    sealed.rows.map((row) => row.key).toSorted(),
  );
  const nonces = await pool.query<{ nonce: bigint }>("select nonce from attempt order by nonce");
  assert.deepEqual(
    nonces.rows.map((row) => Number(row.nonce)),
    events.map((_, i) => firstNonce + i),
  );
  const { address } = new Wallet(testKey("relayer"));
  assert.equal(await on.provider.getTransactionCount(address), firstNonce + events.length);
}

test("every fault point in the code is in its list", async () => {
  const listed = new Set<string>([...RELAYER_FAULT_POINTS, ...AUTHORITY_FAULT_POINTS]);
  const found = new Set<string>();
  const folder = new URL("./", import.meta.url);
  for (const name of await readdir(folder, { recursive: true })) {
    if (!name.endsWith(".ts") || name.endsWith(".test.ts")) continue;
    const source = await readFile(new URL(name, folder), "utf8");
    for (const [, point] of source.matchAll(/faults\.hit\(\s*"([^"]+)"/g)) found.add(point!);
  }
  assert.deepEqual([...found].toSorted(), [...listed].toSorted());
});

for (const seed of SEEDS) {
  test(`a relayer killed at every point settles every batch once, without a nonce gap (seed ${seed})`, async () => {
    const clean = await chain.perform("evm_snapshot", []);
    const { pool, url, regions } = await openLedger();
    const task = {
      run: "relayer",
      ledgerUrl: url,
      chainUrl: chain.url,
      domain: chain.domain,
      confirmations: 1,
    } as const;
    let dying = true;
    const mining = mineUntil(() => !dying);
    for (const [i, point] of RELAYER_FAULT_POINTS.entries()) {
      // Work that is new to this process, so that every point is passed more than once.
      for (const region of regions) await region.sealAttested(chain.domain, 2);
      const occurrence = point.startsWith("relayer.sen") ? 1 + ((seed + i) % 3) : 1;
      const { child } = await startProcess({ ...task, fault: `${point}:${occurrence}` });
      assert.equal(await untilDead(child), "SIGKILL", point);
    }
    const survivor = testRelayer(chain, { pool, url }, { confirmations: 1, pollMs: 20 });
    await survivor.start();
    await until(
      "all are final",
      async () => (await settlementCounts(pool)).final === 4 * RELAYER_FAULT_POINTS.length,
    );
    await survivor.stop();
    dying = false;
    await mining;
    await assertSettledOnce(pool, chain, 0);
    await pool.end();
    await chain.perform("evm_revert", [clean]);
  });
}

/** Blocks as another user's traffic would make them, so that transactions gain depth. */
async function mineUntil(done: () => boolean): Promise<void> {
  while (!done()) {
    await chain.perform("evm_mine", []);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

test("an authority killed at every point gives one signature over one content for each batch", async () => {
  const { pool, url, regions } = await openLedger();
  const api = await startTestApi(chain, { pool, url });
  const storeUrl = await createTestDatabase();
  const task = {
    run: "authority",
    storeUrl,
    apiUrl: api.url,
    chainUrl: chain.url,
    domain: chain.domain,
  } as const;
  for (const [i, point] of AUTHORITY_FAULT_POINTS.entries()) {
    for (const region of regions) await region.seal();
    const { child } = await startProcess({ ...task, fault: `${point}:${1 + (i % 2)}` });
    assert.equal(await untilDead(child), "SIGKILL", point);
  }
  const store = openStore(storeUrl);
  const survivor = testAuthority(chain, api.url, store);
  await survivor.start();
  const batches = regions.flatMap((region) => region.batches);
  const me = TEST_AUTHORITIES[0]!.address;
  for (const { content } of batches) {
    const { region: regionId, round, interval } = content;
    await until("the batch is signed", async () => {
      const attestations = await attestationsOf(pool, { regionId, round, interval });
      return attestations.some(({ authority, signature }) => authority === me && signature !== undefined);
    });
  }
  await survivor.stop();
  const intents = await store.query<{ n: bigint }>("select count(*) as n from intent");
  assert.equal(intents.rows[0]!.n, BigInt(batches.length));
  await store.end();
  await api.stop();
  await pool.end();
});

test("a chain killed before its last block was durable gets that transaction again, and nothing twice", async () => {
  const dataDir = await mkdtemp(join(tmpdir(), "gridroot-test-relaying-"));
  const first = await startProcess({ run: "chain", dataDir, port: 0, fault: "chain.mined:8" });
  const port = Number(new URL(first.url).port);
  const provider = chainProvider(first.url, TEST_CHAIN_ID);
  const address = await deployTestSettlement(provider, [1, 2]);
  const domain = { chainId: TEST_CHAIN_ID, verifyingContract: address };
  const on = { provider, domain, client: settlementClient(address, provider) };
  const { pool, url, regions } = await openLedger();
  for (const region of regions) await region.sealAttested(domain, 4);
  // Three blocks for the deployment; the fifth settlement's block is mined and lost.
  const relayer = testRelayer(on, { pool, url });
  await relayer.start();
  assert.equal(await untilDead(first.child), "SIGKILL");
  const second = await startProcess({ run: "chain", dataDir, port, fault: "" });
  await until("all are final", async () => (await settlementCounts(pool)).final === 8);
  await relayer.stop();
  await assertSettledOnce(pool, on, 0);
  second.child.kill("SIGKILL");
  await untilDead(second.child);
  provider.destroy();
  await pool.end();
  await rm(dataDir, { recursive: true, force: true });
});

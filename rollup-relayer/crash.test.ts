import assert from "node:assert/strict";
import { mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Wallet } from "ethers/wallet";
import { chainProvider, settlementClient } from "../contracts/client.ts";
import { attestationsOf } from "../ledger/attestations.ts";
import { type Pool, openPool } from "../service/database.ts";
import { migrate } from "../service/migrate.ts";
import { RegionChain, testRelayer } from "../tests/support/attested-ledger.ts";
import { createTestDatabase } from "../tests/support/postgres.ts";
import { startProcess, untilDead } from "../tests/support/relaying-process.ts";
import { seedRegion } from "../tests/support/seeded-ledger.ts";
import { settlementCounts } from "../tests/support/settlement-counts.ts";
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

/** More seeds by TEST_SEEDS=1,2,3. */
const SEEDS = (process.env["TEST_SEEDS"] ?? "1,2").split(",").map(Number);
let chain: TestChain;

/** What a test leaves behind is undone in reverse order, whether it passes or fails. */
class Cleanup {
  readonly #steps: (() => unknown)[] = [];

  after(step: () => unknown): void {
    this.#steps.unshift(step);
  }

  async run(): Promise<void> {
    for (const step of this.#steps) await step();
  }
}

function crashTest(name: string, history: (cleanup: Cleanup) => Promise<void>): void {
  test(name, async () => {
    const cleanup = new Cleanup();
    try {
      await history(cleanup);
    } finally {
      await cleanup.run();
    }
  });
}

before(async () => {
  chain = await startTestChain([1, 2, 3]);
});

after(async () => {
  await chain.stop();
});

async function openLedger(cleanup: Cleanup): Promise<{ pool: Pool; url: string; regions: RegionChain[] }> {
  const url = await createTestDatabase();
  const options = { connectionString: url, applicationName: "test", maxConnections: 6, schema: "ledger" };
  const pool = openPool(options, () => {});
  cleanup.after(() => pool.end());
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
  crashTest(
    `a relayer killed at every point settles every batch once, without a nonce gap (seed ${seed})`,
    async (cleanup) => {
      const clean = await chain.perform("evm_snapshot", []);
      cleanup.after(() => chain.perform("evm_revert", [clean]));
      const { pool, url, regions } = await openLedger(cleanup);
      const task = {
        run: "relayer",
        ledgerUrl: url,
        chainUrl: chain.url,
        domain: chain.domain,
        confirmations: 1,
      } as const;
      let dying = true;
      const mining = mineWhenMined(pool, () => !dying);
      cleanup.after(() => {
        dying = false;
        return mining;
      });
      for (const [i, point] of RELAYER_FAULT_POINTS.entries()) {
        // Work that is new to this process, so that every point is passed more than once.
        for (const region of regions) await region.sealAttested(chain.domain, 2);
        const occurrence = point.startsWith("relayer.sen") ? 1 + ((seed + i) % 3) : 1;
        const { child } = await startProcess({ ...task, fault: `${point}:${occurrence}` });
        assert.equal(await untilDead(child), "SIGKILL", point);
      }
      const survivor = testRelayer(chain, { pool, url }, { confirmations: 1, pollMs: 20 });
      cleanup.after(() => survivor.stop());
      await survivor.start();
      await until(
        "all are final",
        async () => (await settlementCounts(pool)).final === 4 * RELAYER_FAULT_POINTS.length,
      );
      await assertSettledOnce(pool, chain, 0);
    },
  );
}

/**
 * Gives mined transactions their depth, a block at a time. Only once a receipt is in the journal: else a relayer could
 * find a transaction deep enough at its first look, and would never pass the points of the second.
 */
async function mineWhenMined(pool: Pool, done: () => boolean): Promise<void> {
  while (!done()) {
    await until(
      "a transaction waits for its depth",
      async () => {
        const waiting = await pool.query("select 1 from attempt where state = 'mined'");
        return done() || waiting.rowCount! > 0;
      },
      60_000,
    );
    if (!done()) await chain.perform("evm_mine", []);
  }
}

crashTest(
  "an authority killed at every point gives one signature over one content for each batch",
  async (cleanup) => {
    const { pool, url, regions } = await openLedger(cleanup);
    const api = await startTestApi(chain, { pool, url });
    cleanup.after(() => api.stop());
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
    cleanup.after(() => store.end());
    const survivor = testAuthority(chain, api.url, store);
    cleanup.after(() => survivor.stop());
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
    const intents = await store.query<{ n: bigint }>("select count(*) as n from intent");
    assert.equal(intents.rows[0]!.n, BigInt(batches.length));
  },
);

crashTest(
  "a chain killed before its last block was durable gets that transaction again, and nothing twice",
  async (cleanup) => {
    const dataDir = await mkdtemp(join(tmpdir(), "gridroot-test-relaying-"));
    cleanup.after(() => rm(dataDir, { recursive: true, force: true }));
    const first = await startProcess({ run: "chain", dataDir, port: 0, fault: "chain.mined:8" });
    const port = Number(new URL(first.url).port);
    const provider = chainProvider(first.url, TEST_CHAIN_ID);
    cleanup.after(() => provider.destroy());
    const address = await deployTestSettlement(provider, [1, 2]);
    const domain = { chainId: TEST_CHAIN_ID, verifyingContract: address };
    const on = { provider, domain, client: settlementClient(address, provider) };
    const { pool, url, regions } = await openLedger(cleanup);
    for (const region of regions) await region.sealAttested(domain, 4);
    // Three blocks for the deployment; the fifth settlement's block is mined and lost.
    const relayer = testRelayer(on, { pool, url });
    cleanup.after(() => relayer.stop());
    await relayer.start();
    assert.equal(await untilDead(first.child), "SIGKILL");
    const second = await startProcess({ run: "chain", dataDir, port, fault: "" });
    cleanup.after(async () => {
      second.child.kill("SIGKILL");
      await untilDead(second.child);
    });
    await until("all are final", async () => (await settlementCounts(pool)).final === 8);
    await assertSettledOnce(pool, on, 0);
  },
);

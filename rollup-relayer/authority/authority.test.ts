import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { zstdCompressSync } from "node:zlib";
import { Wallet } from "ethers/wallet";
import { encodePost } from "../../contracts/client.ts";
import { addWh, wh } from "../../domain/metering/units.ts";
import { type Batch, buildBatch } from "../../domain/settlement/batch.ts";
import { dataHash, encodeEvidence } from "../../domain/settlement/evidence.ts";
import { createHasher } from "../../domain/settlement/hasher.ts";
import { contentHash, recoverAuthority } from "../../domain/settlement/message.ts";
import type { Hex } from "../../domain/settlement/settlement.ts";
import { type Attestation, attestationsOf } from "../../ledger/attestations.ts";
import { bytesOf } from "../../ledger/batches.ts";
import { type Pool, openPool } from "../../service/database.ts";
import { migrate } from "../../service/migrate.ts";
import { RegionChain, attest } from "../../tests/support/attested-ledger.ts";
import { createTestDatabase } from "../../tests/support/postgres.ts";
import { accountOf, seedBatch, seedRegion } from "../../tests/support/seeded-ledger.ts";
import { openStore, startTestApi, testAuthority } from "../../tests/support/test-authority.ts";
import {
  TEST_AUTHORITIES,
  TEST_CAP_WH,
  TEST_START_INTERVAL,
  type TestChain,
  startTestChain,
  testKey,
} from "../../tests/support/test-chain.ts";
import { until } from "../../tests/support/until.ts";
import { signSettlement } from "../signer.ts";
import type { Authority } from "./authority.ts";

const hasher = await createHasher();
const [me] = TEST_AUTHORITIES as [(typeof TEST_AUTHORITIES)[0]];
let chain: TestChain;
let clean: string;
let pool: Pool;
let store: Pool;
let api: { readonly url: string; stop(): Promise<void> };
let regions: RegionChain[];
let authority: Authority | undefined;

before(async () => {
  chain = await startTestChain([1, 2, 3]);
  clean = (await chain.perform("evm_snapshot", [])) as string;
});

after(async () => {
  await chain.stop();
});

beforeEach(async (context) => {
  await chain.perform("evm_revert", [clean]);
  clean = (await chain.perform("evm_snapshot", [])) as string;
  const url = await createTestDatabase();
  const options = { connectionString: url, applicationName: "test", maxConnections: 6, schema: "ledger" };
  pool = openPool(options, () => {});
  await migrate(pool, "ledger", new URL("../../ledger/migrations/", import.meta.url));
  for (const region of [1, 2]) await seedRegion(pool, region, `region-${region}`);
  regions = [1, 2].map((region) => new RegionChain(pool, region));
  store = openStore(await createTestDatabase());
  api = await startTestApi(chain, { pool, url });
  (context as unknown as { after(work: () => Promise<void>): void }).after(async () => {
    await authority?.stop();
    authority = undefined;
    await api.stop();
    await store.end();
    await pool.end();
  });
});

async function start(next: Authority): Promise<void> {
  authority = next;
  await next.start();
}

async function verdictOn(batch: Batch): Promise<Attestation | undefined> {
  const { region: regionId, round, interval } = batch.content;
  const attestations = await attestationsOf(pool, { regionId, round, interval });
  return attestations.find((attestation) => attestation.authority === me.address);
}

async function untilVerdict(batch: Batch): Promise<Attestation> {
  await until("the verdict is in the ledger", async () => (await verdictOn(batch)) !== undefined);
  return (await verdictOn(batch))!;
}

/** Replaces what is sealed for a batch, evidence and all. */
async function replaceSealed(
  batch: Batch,
  file: Uint8Array,
  changes: Partial<Batch["content"]>,
): Promise<Batch> {
  const content = { ...batch.content, dataHash: dataHash(hasher, file), ...changes };
  const hash = contentHash(content);
  const { region, round, interval } = content;
  await pool.query(
    `update batch set root = $4, interval_credit_wh = $5, cumulative_credit_wh = $6, cumulative_debit_wh = $7,
            leaf_count = $8, data_hash = $9, content_hash = $10
      where region_id = $1 and round = $2 and interval_end = $3`,
    [
      ...[region, round, interval],
      bytesOf(content.root),
      content.intervalCreditWh,
      content.cumulativeCreditWh,
      content.cumulativeDebitWh,
      content.leafCount,
      bytesOf(content.dataHash),
      bytesOf(hash),
    ],
  );
  await pool.query("update evidence set file_zstd = $3 where region_id = $1 and interval_end = $2", [
    ...[region, interval],
    zstdCompressSync(file),
  ]);
  return { ...batch, content, contentHash: hash, file };
}

test("an authority signs every region's batches in order, ahead of the chain", async () => {
  for (const region of regions) for (let i = 0; i < 5; i += 1) await region.seal();
  await start(testAuthority(chain, api.url, store));
  for (const region of regions) await untilVerdict(region.batches.at(-1)!);
  for (const batch of regions.flatMap((region) => region.batches)) {
    const { signature } = (await verdictOn(batch))!;
    const settlement = { ...batch.content, authoritySetEpoch: 1 };
    assert.equal(recoverAuthority(chain.domain, settlement, signature!), me.address);
  }
  const kept = await store.query<{ n: bigint }>("select count(*) as n from evidence");
  assert.equal(kept.rows[0]!.n, 10n);
});

test("a batch whose credit is not in its evidence is refused with the reason, once, and the other region goes on", async () => {
  const [region, other] = regions as [RegionChain, RegionChain];
  const sealed = await region.seal();
  const moreWh = addWh(sealed.content.cumulativeCreditWh, wh(1));
  const batch = await replaceSealed(sealed, sealed.file, {
    cumulativeCreditWh: moreWh,
    intervalCreditWh: moreWh,
  });
  await start(testAuthority(chain, api.url, store));
  const verdict = await untilVerdict(batch);
  assert.equal(verdict.refusal, "credit-sum-differs");
  assert.equal(verdict.signature, undefined);
  assert.equal((await untilVerdict(await other.seal())).refusal, undefined);
  const kept = await store.query<{ refusal: string | null }>(
    "select refusal from verdict order by region_id",
  );
  assert.deepEqual(
    kept.rows.map((row) => row.refusal),
    ["credit-sum-differs", null],
  );
  assert.equal((await store.query("select 1 from intent where region_id = 1")).rowCount, 0);
});

test("a file that is not the promised one is kept and refused", async () => {
  const batch = await regions[0]!.seal();
  const [first, ...others] = batch.evidence.accounts as [(typeof batch.evidence.accounts)[0]];
  const altered = encodeEvidence({
    ...batch.evidence,
    accounts: [{ ...first, creditWh: addWh(first.creditWh, wh(5)) }, ...others],
  });
  await pool.query("update evidence set file_zstd = $1", [zstdCompressSync(altered)]);
  await start(testAuthority(chain, api.url, store));
  assert.equal((await untilVerdict(batch)).refusal, "data-hash-differs");
  const kept = await store.query<{ data_hash: Buffer }>("select data_hash from evidence");
  assert.deepEqual(kept.rows[0]!.data_hash, bytesOf(dataHash(hasher, altered)));
});

test("one content for one place: another batch in a signed one's place is refused, even where no vote was stored", async () => {
  const [region] = regions as [RegionChain];
  const batch = await region.seal();
  await start(testAuthority(chain, api.url, store));
  await untilVerdict(batch);
  await authority!.stop();
  // The ledger forgets, and seals something else that is as good by itself.
  await pool.query("delete from attestation");
  await pool.query("delete from evidence");
  await pool.query("delete from batch");
  const { interval } = batch.content;
  const other = await seedBatch(pool, undefined, { region: 1, interval, meters: [7, 8], scale: 3n });
  await start(testAuthority(chain, api.url, store));
  assert.equal((await untilVerdict(other)).refusal, "conflicting-batch");
});

test("two processes of one key with one store bind themselves to one content", async () => {
  const [region] = regions as [RegionChain];
  const batch = await region.seal();
  const twin = testAuthority(chain, api.url, store);
  await start(testAuthority(chain, api.url, store));
  await twin.start();
  await untilVerdict(batch);
  for (let i = 0; i < 5; i += 1) await region.seal();
  await untilVerdict(region.batches.at(-1)!);
  await twin.stop();
  const intents = await store.query<{ n: bigint }>("select count(*) as n from intent");
  assert.equal(intents.rows[0]!.n, 6n);
});

test("what another process of the key has bound itself to while this one judges stands", async () => {
  const batch = await regions[0]!.seal();
  const { region, round, interval } = batch.content;
  const racing: typeof fetch = async (input, init) => {
    const response = await fetch(input, init);
    if (!response.url.includes("/evidence")) return response;
    await store.query("insert into intent values ($1, $2, $3, $4, $5, $6, $7, $7, $7, 0)", [
      ...[bytesOf(me.address), chain.domain.chainId, bytesOf(chain.domain.verifyingContract)],
      ...[region, round, interval, Buffer.alloc(32, 9)],
    ]);
    return response;
  };
  await start(testAuthority(chain, api.url, store, {}, { fetch: racing }));
  assert.equal((await untilVerdict(batch)).refusal, "conflicting-batch");
});

test("a batch that the chain has gone past is refused", async () => {
  const late = { region: 1, interval: TEST_START_INTERVAL + 1_800, meters: [1], scale: 1n };
  const batch = await seedBatch(pool, undefined, late);
  // The chain has accepted another first batch, of the interval before.
  await post(rivalBatch(TEST_START_INTERVAL + 900));
  await start(testAuthority(chain, api.url, store));
  assert.equal((await untilVerdict(batch)).refusal, "chain-differs");
});

test("a late authority with an empty store catches up from the region's origin", async () => {
  const [region] = regions as [RegionChain];
  for (let i = 0; i < 3; i += 1) {
    const batch = await region.seal();
    await attest(pool, chain.domain, batch, TEST_AUTHORITIES.slice(1));
    await post(batch);
  }
  await region.seal();
  await start(testAuthority(chain, api.url, store));
  const verdicts = [];
  await untilVerdict(region.batches.at(-1)!);
  for (const batch of region.batches) verdicts.push((await verdictOn(batch))?.refusal);
  assert.deepEqual(verdicts, [undefined, undefined, undefined, undefined]);
});

test("a batch whose parent is neither on chain nor verified waits, and is signed once the chain holds the parent", async () => {
  const [region] = regions as [RegionChain];
  const parent = await region.seal();
  const batch = await region.seal();
  // The parent is never offered: it is marked as refused before this authority has seen anything.
  await pool.query("insert into attestation values (1, 0, $1, $2, 1, null, 'lost', 0)", [
    parent.content.interval,
    bytesOf(me.address),
  ]);
  await start(testAuthority(chain, api.url, store));
  // The look that finds the second one began after the look that found the first had ended.
  for (let i = 0; i < 2; i += 1) await untilVerdict(await regions[1]!.seal());
  assert.equal(await verdictOn(batch), undefined);
  await post(parent);
  assert.equal((await untilVerdict(batch)).refusal, undefined);
});

test("a region that was never agreed to is refused", async () => {
  const batch = await regions[0]!.seal();
  await start(testAuthority(chain, api.url, store, { terms: new Map() }));
  assert.equal((await untilVerdict(batch)).refusal, "region-unknown");
});

test("terms other than the agreed ones are refused", async () => {
  const batch = await regions[0]!.seal();
  const terms = new Map([[1, { intervalLengthS: 900, capWh: wh(7) }]]);
  await start(testAuthority(chain, api.url, store, { terms }));
  assert.equal((await untilVerdict(batch)).refusal, "terms-differ");
});

test("an evidence file above the bound is not read to its end, and nothing is signed", async () => {
  const batch = await regions[0]!.seal();
  let failures = 0;
  const counting: typeof fetch = async (input, init) => {
    const response = await fetch(input, init);
    if (response.url.includes("/evidence")) failures += 1;
    return response;
  };
  await start(testAuthority(chain, api.url, store, { maxEvidenceBytes: 16 }, { fetch: counting }));
  await until("it has tried again", () => failures > 2);
  assert.equal(await verdictOn(batch), undefined);
  assert.equal((await store.query("select 1 from intent")).rowCount, 0);
});

function rivalBatch(interval: number): Batch {
  const account: Hex = accountOf(9);
  return buildBatch(hasher, undefined, {
    ...{ region: 1, round: 0, interval, intervalLengthS: 900, capWh: TEST_CAP_WH },
    ...{ registryVersion: 1n, offsets: [{ partition: 0, nextOffset: 1n }] },
    boundaries: [
      { account, servicePoint: "sp-9", creditWh: wh(9), meterId: "meter-9", epoch: 0, seq: 1, t: interval },
    ],
  });
}

/** Settles a batch on chain with the other two authorities. */
async function post(batch: Batch): Promise<void> {
  const settlement = { ...batch.content, authoritySetEpoch: 1 };
  const signatures = await Promise.all(
    TEST_AUTHORITIES.slice(1).map(async (signer) => ({
      authority: signer.address,
      signature: await signSettlement(signer, chain.domain, settlement),
    })),
  );
  const wallet = new Wallet(testKey("stranger"), chain.provider);
  const data = encodePost(settlement, signatures);
  await (await wallet.sendTransaction({ to: chain.domain.verifyingContract, data })).wait();
}

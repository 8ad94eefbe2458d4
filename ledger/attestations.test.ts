import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Batch } from "../domain/settlement/batch.ts";
import type { Hex } from "../domain/settlement/settlement.ts";
import { listen, openPool } from "../service/database.ts";
import { migrate } from "../service/migrate.ts";
import { createTestDatabase } from "../tests/support/postgres.ts";
import { seedBatch, seedRegion } from "../tests/support/seeded-ledger.ts";
import { until } from "../tests/support/until.ts";
import {
  ATTESTATIONS_CHANNEL,
  type Attestation,
  attestationsOf,
  pendingFor,
  recordAttestation,
} from "./attestations.ts";

const url = await createTestDatabase();
const options = { connectionString: url, applicationName: "test", maxConnections: 4, schema: "ledger" };
const pool = openPool(options, () => {});
const AUTHORITY: Hex = `0x${"a1".repeat(20)}`;
const SIGNATURE: Hex = `0x${"5a".repeat(65)}`;
const batches = new Map<number, Batch[]>();

before(async () => {
  await migrate(pool, "ledger", new URL("migrations/", import.meta.url));
  for (const [region, count] of [
    [1, 5],
    [2, 2],
    [3, 1],
  ] as const) {
    await seedRegion(pool, region, `region-${region}`);
    const chain: Batch[] = [];
    for (let i = 1; i <= count; i += 1) {
      const next = { region, interval: 900 * i, meters: [region], scale: BigInt(i) };
      chain.push(await seedBatch(pool, chain.at(-1)?.evidence, next));
    }
    batches.set(region, chain);
  }
});

after(() => pool.end());

function verdict(region: number, position: number, changes: Partial<Attestation> = {}): Attestation {
  const { round, interval } = batches.get(region)![position]!.content;
  return {
    ...{ regionId: region, round, interval, authority: AUTHORITY, authoritySetEpoch: 1 },
    ...{ signature: SIGNATURE, refusal: undefined, receivedMs: 1 },
    ...changes,
  };
}

async function pending(limit: number, epoch = 1): Promise<readonly string[]> {
  const offered = await pendingFor(pool, AUTHORITY, epoch, limit);
  return offered.map((batch) => `${batch.regionId}/${batch.interval / 900}`);
}

test("what is pending is taken from the regions by turns, oldest first, so that no region holds up another", async () => {
  assert.deepEqual(await pending(5), ["1/1", "2/1", "3/1", "1/2", "2/2"]);
});

test("what comes after the last verdict of this epoch is pending, void batches apart", async () => {
  await recordAttestation(pool, verdict(1, 0));
  await recordAttestation(pool, verdict(1, 1, { signature: undefined, refusal: "root-differs" }));
  await pool.query("update batch set voided_ms = 1 where region_id = 1 and interval_end = 2700");
  assert.deepEqual(await pending(3), ["1/4", "2/1", "3/1"]);
  assert.deepEqual(await pending(3, 2), ["1/1", "2/1", "3/1"]);
});

test("the first verdict stands, save that a signature replaces a refusal; what changed is announced", async (context) => {
  let heard = 0;
  let last = false;
  const listener = await listen(url, ATTESTATIONS_CHANNEL, (payload) => {
    if (payload === "last") last = true;
    else heard += 1;
  });
  context.after(() => listener.stop());
  const refusal = verdict(2, 0, { signature: undefined, refusal: "cap-exceeded" });
  assert.equal(await recordAttestation(pool, refusal), true);
  assert.equal(await recordAttestation(pool, { ...refusal, refusal: "root-differs" }), false);
  assert.equal(await recordAttestation(pool, verdict(2, 0)), true);
  assert.equal(await recordAttestation(pool, refusal), false);
  assert.equal(await recordAttestation(pool, verdict(2, 0, { signature: `0x${"00".repeat(65)}` })), false);
  assert.deepEqual(await attestationsOf(pool, refusal), [verdict(2, 0)]);
  // Notifications arrive in the order of their commits: after this one no other is on its way.
  await pool.query(`select pg_notify('${ATTESTATIONS_CHANNEL}', 'last')`);
  await until("all are heard", () => last);
  assert.equal(heard, 2);
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { keccak256 } from "ethers/crypto";
import { RpcRefusal } from "../../contracts/local-chain/hardhat-node.ts";
import type { Hex } from "../../domain/settlement/settlement.ts";
import { hexOf } from "../../ledger/batches.ts";
import { type RegionChain, testRelayer } from "../../tests/support/attested-ledger.ts";
import {
  assertSettledOnce,
  chain,
  mine,
  pool,
  regions,
  relayer,
  sendRaw,
  start,
  untilSettled,
  url,
} from "../../tests/support/relayed-ledger.ts";
import { until } from "../../tests/support/until.ts";

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

test("a restart with transactions that no block holds sends the same bytes again, and signs on once they are mined", async () => {
  const [region] = regions as [RegionChain];
  await region.sealAttested(chain.domain, 2);
  const sent: unknown[] = [];
  let mining = false;
  // A node whose pool keeps what it takes, and forgets it when it restarts.
  chain.setGate(async (method, params) => {
    if (method !== "eth_sendRawTransaction") return chain.perform(method, params);
    sent.push(params[0]);
    return mining ? chain.perform(method, params) : keccak256(params[0] as Hex);
  });
  await start(testRelayer(chain, { pool, url }, { resendMs: 60_000 }));
  await untilSettled(2, ["broadcast"]);
  await relayer!.stop();
  const stored = await hashes();

  await region.sealAttested(chain.domain, 1);
  await start(testRelayer(chain, { pool, url }, { resendMs: 300 }));
  await until("both were sent again", () => sent.length >= 4);
  assert.deepEqual(sent.slice(2, 4), sent.slice(0, 2));
  assert.deepEqual(await hashes(), stored);
  mining = true;
  await untilSettled(3);
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

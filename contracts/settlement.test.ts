import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { type AddressInfo, type Socket, createServer } from "node:net";
import { after, before, test } from "node:test";
import fc from "fast-check";
import { wh } from "../domain/metering/units.ts";
import { contentHash, recordOf, settlementDigest } from "../domain/settlement/message.ts";
import { createHasher } from "../domain/settlement/hasher.ts";
import { ZERO_HASH, fromHex, toHex } from "../domain/settlement/hex.ts";
import { buildTree, verifyMultiproof } from "../domain/settlement/merkle-sum-tree.ts";
import type { IndexedLeaf, ProofNode } from "../domain/settlement/merkle-sum-tree.ts";
import type { Hex, Leaf, Settlement } from "../domain/settlement/settlement.ts";
import { settlementAbi } from "./artifact.ts";
import { chainProvider, contractError, encodePost, settlementClient } from "./client.ts";
import {
  CHAIN_ID,
  type ChainFixture,
  REGION,
  sign,
  startChainFixture,
  testLeaves,
  testWallet,
} from "./test/chain-fixture.ts";

const SEED = 20_261_121;
const fixtures: ChainFixture[] = [];
let fixture: ChainFixture;

before(async () => {
  fixture = await startChainFixture();
  fixtures.push(fixture);
});
after(() => Promise.all(fixtures.map((started) => started.stop())));

const indexed = (leaves: readonly Leaf[]): IndexedLeaf[] => leaves.map((leaf, index) => ({ ...leaf, index }));

/** What the contract answers to a call with these arguments. */
async function ask(method: "contentHash" | "digest", settlement: Settlement): Promise<string> {
  const data = settlementAbi.encode(method, [settlement]);
  return fixture.provider.call({ to: fixture.client.address, data });
}

async function settle(leaves: readonly Leaf[]) {
  const { tree, settlement, data } = await fixture.next(leaves);
  await fixture.post(data);
  return { tree, settlement, record: recordOf(settlement) };
}

test("content hash and EIP-712 digest are the same in TypeScript and Solidity", async () => {
  const uint = (bits: number) => fc.bigInt({ min: 0n, max: 2n ** BigInt(bits) - 1n });
  const seconds = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });
  const number = fc.integer({ min: 0, max: 2 ** 32 - 1 });
  const hash = uint(256).map((value) => `0x${value.toString(16).padStart(64, "0")}` satisfies Hex);
  const settlements = fc.record<Settlement>({
    region: number,
    round: number,
    interval: seconds,
    prevInterval: seconds,
    prevRoot: hash,
    root: hash,
    intervalCreditWh: uint(64).map(wh),
    cumulativeCreditWh: uint(64).map(wh),
    cumulativeDebitWh: uint(64).map(wh),
    leafCount: number,
    dataHash: hash,
    authoritySetEpoch: number,
  });
  const domain = { chainId: CHAIN_ID, verifyingContract: fixture.client.address };
  await fc.assert(
    fc.asyncProperty(settlements, async (settlement) => {
      assert.equal(await ask("contentHash", settlement), contentHash(settlement));
      assert.equal(await ask("digest", settlement), settlementDigest(domain, settlement));
    }),
    { seed: SEED, numRuns: 25 },
  );
});

test("roots are those of Solidity for 1 to 257 leaves and around powers of two", async () => {
  const hasher = await createHasher();
  const counts = [...Array.from({ length: 257 }, (_, n) => n + 1), 511, 512, 513, 1023, 1024, 1025];
  let digest = ZERO_HASH;
  for (const count of counts) {
    const leaves = testLeaves(count, (n) => BigInt(count * 1_000 + n));
    const { root } = buildTree(
      hasher,
      leaves.map((leaf) => ({ ...leaf, debitWh: leaf.creditWh })),
    );
    digest = toHex(hasher.digest(fromHex(`0x${digest.slice(2)}${root.slice(2)}`, 64)));
  }
  const solidity = await readFile(new URL("./test/Agreement.t.sol", import.meta.url), "utf8");
  assert.equal(digest, /ROOTS_DIGEST =\s*(0x[0-9a-f]{64})/.exec(solidity)?.[1]);
});

test("the contract accepts every leaf's proof for 1 to 33 leaves", async () => {
  const trees = await startChainFixture();
  fixtures.push(trees);
  for (let count = 1; count <= 33; count += 1) {
    // Credits rise with the number of leaves, so that each tree may follow the one before.
    const leaves = testLeaves(count, (n) => BigInt(count * 1_000 + n));
    const { tree, settlement, data } = await trees.next(leaves);
    await trees.post(data);
    const proven = await Promise.all(
      indexed(leaves).map((leaf) =>
        trees.client.verifyOnChain(REGION, recordOf(settlement), leaf, tree.proofOf(leaf.index).siblings),
      ),
    );
    assert.deepEqual(
      proven,
      leaves.map(() => true),
    );
  }
});

test("single proofs and multiproofs agree around powers of two", async () => {
  const trees = await startChainFixture();
  fixtures.push(trees);
  for (const count of [511, 512, 513, 1023, 1024, 1025, 4095, 4096, 4097]) {
    const leaves = testLeaves(count, (n) => BigInt(count * 10 + n));
    const { tree, settlement, data } = await trees.next(leaves);
    await trees.post(data);
    const record = recordOf(settlement);
    for (const index of [0, 1, count >> 1, count - 2, count - 1]) {
      const leaf = { ...leaves[index]!, index };
      const { siblings } = tree.proofOf(index);
      assert.ok(
        await trees.client.verifyOnChain(REGION, record, leaf, siblings),
        `leaf ${index} of ${count}`,
      );
    }
    const chosen = [0, 3, 4, count >> 1, count - 2, count - 1];
    const subset = chosen.map((index) => ({ ...leaves[index]!, index }));
    const { nodes } = tree.multiproofOf(chosen);
    const batch = settlementAbi.encode("claimBatch", [REGION, record, subset, nodes]);
    await trees.provider.call({ to: trees.client.address, data: batch });
  }
});

test("TypeScript and Solidity refuse the same altered proofs", async () => {
  const leaves = testLeaves(37, (n) => BigInt(1_000 + n));
  const { tree, record } = await settle(leaves);
  const commitment = { root: tree.root, rootSumWh: tree.rootSumWh, leafCount: tree.leafCount };
  const alterations = fc.record({
    index: fc.nat(36),
    part: fc.constantFrom("account", "creditWh", "debitWh", "index", "hash", "sumWh", "shorter", "longer"),
    bit: fc.nat(255),
    node: fc.nat(7),
  });
  await fc.assert(
    fc.asyncProperty(alterations, async ({ index, part, bit, node }) => {
      const leaf: IndexedLeaf = { ...leaves[index]!, index };
      const siblings = [...tree.proofOf(index).siblings];
      assert.ok(await fixture.client.verifyOnChain(REGION, record, leaf, siblings));
      const [altered, nodes] = alter(leaf, siblings, part, bit, node % siblings.length);
      assert.equal(await fixture.client.verifyOnChain(REGION, record, altered, nodes), false);
      assert.equal(verifyMultiproof(fixture.hasher, commitment, [altered], nodes), false);
    }),
    { seed: SEED, numRuns: 150 },
  );
});

function alter(
  leaf: IndexedLeaf,
  siblings: readonly ProofNode[],
  part: string,
  bit: number,
  node: number,
): [IndexedLeaf, readonly ProofNode[]] {
  const flip = (value: bigint, bits: number) => value ^ (1n << BigInt(bit % bits));
  const hex = (value: bigint, bytes: number): Hex => `0x${value.toString(16).padStart(bytes * 2, "0")}`;
  const withNode = (change: Partial<ProofNode>) =>
    siblings.map((sibling, at) => (at === node ? { ...sibling, ...change } : sibling));
  switch (part) {
    case "account":
      return [{ ...leaf, account: hex(flip(BigInt(leaf.account), 160), 20) }, siblings];
    case "creditWh":
      return [{ ...leaf, creditWh: wh(flip(leaf.creditWh, 64)) }, siblings];
    case "debitWh":
      return [{ ...leaf, debitWh: wh(flip(leaf.debitWh, 64)) }, siblings];
    case "index":
      return [{ ...leaf, index: Number(flip(BigInt(leaf.index), 32)) }, siblings];
    case "hash":
      return [leaf, withNode({ hash: hex(flip(BigInt(siblings[node]!.hash), 256), 32) })];
    case "sumWh":
      return [leaf, withNode({ sumWh: wh(flip(siblings[node]!.sumWh, 64)) })];
    case "shorter":
      return [leaf, siblings.filter((_, at) => at !== node)];
    default:
      return [leaf, siblings.toSpliced(node, 0, siblings[node]!)];
  }
}

test("an altered record is not accepted", async () => {
  const { settlement, record } = await settle(testLeaves(40, (n) => BigInt(2_000 + n)));
  assert.ok(await fixture.client.isAccepted(settlement));
  assert.ok(await fixture.client.isAccepted({ ...settlement, authoritySetEpoch: 9 } as Settlement));
  const altered: Partial<Settlement>[] = [
    { round: 1 },
    { dataHash: `0x${"00".repeat(32)}` },
    { cumulativeDebitWh: wh(1n) },
    { leafCount: 39 },
    { prevInterval: 0 },
  ];
  for (const change of altered)
    assert.equal(await fixture.client.isAccepted({ ...settlement, ...change }), false);
  assert.equal(await fixture.client.isRecordAccepted(REGION + 1, record), false);
});

test("a claim mints once, by whomever it is sent, and a batch skips what was claimed", async () => {
  const leaves = testLeaves(41, (n) => BigInt(3_000 + n));
  const { tree, record } = await settle(leaves);
  const claimant = settlementClient(fixture.client.address, fixture.deployer);
  const leaf = { ...leaves[5]!, index: 5 };
  for (let repetition = 0; repetition < 2; repetition += 1) {
    await (await claimant.claim(REGION, record, leaf, tree.proofOf(5).siblings)).wait();
    assert.equal(await fixture.client.readBalanceWh(leaf.account), 3_005n);
    assert.equal(await fixture.client.readMintedWh(REGION, leaf.account), 3_005n);
  }
  const neighbours = indexed(leaves).slice(4, 8);
  const { nodes } = tree.multiproofOf([4, 5, 6, 7]);
  await (await claimant.claimBatch(REGION, record, neighbours, nodes)).wait();
  assert.equal((await fixture.client.readRegion(REGION)).mintedWh, 3_004n + 3_005n + 3_006n + 3_007n);
});

test("signatures are sorted for the contract, and an authority cannot be counted twice", async () => {
  const { settlement } = await fixture.next(testLeaves(42, (n) => BigInt(4_000 + n)));
  const signers = fixture.authorities.slice(0, 2);
  const signatures = await sign(settlement, signers, fixture.client.address);
  for (const order of [signatures, signatures.toReversed()]) {
    const data = encodePost(settlement, order);
    await fixture.provider.call({ to: fixture.client.address, data });
  }
  assert.throws(() => encodePost(settlement, [signatures[0]!, signatures[0]!]), {
    code: "duplicate-authority",
  });
});

test("the contract's refusals come as errors with a code", async () => {
  const { settlement, data } = await fixture.next(testLeaves(43, (n) => BigInt(5_000 + n)));
  const codeOf = async (settlement: Settlement, wallets = fixture.authorities.slice(0, 2)) => {
    const signatures = await sign(settlement, wallets, fixture.client.address);
    const call = { to: fixture.client.address, data: encodePost(settlement, signatures) };
    return fixture.provider.call(call).then(
      () => "accepted",
      (cause: unknown) => contractError(cause).code,
    );
  };
  assert.equal(await codeOf(settlement), "accepted");
  assert.equal(await codeOf(settlement, fixture.authorities.slice(0, 1)), "contract-wrong-signature-count");
  assert.equal(await codeOf(settlement, [testWallet(99), testWallet(98)]), "contract-invalid-signature");
  assert.equal(await codeOf({ ...settlement, prevInterval: 0 }), "contract-wrong-parent");
  assert.equal(await codeOf({ ...settlement, authoritySetEpoch: 2 }), "contract-wrong-epoch");
  assert.equal(await codeOf({ ...settlement, region: 99 }), "contract-unknown-region");
  await fixture.post(data);
  assert.equal(await codeOf(settlement), "contract-already-settled");
  await assert.rejects(settlementClient(`0x${"ab".repeat(20)}`, fixture.provider).readTip(REGION), {
    code: "contract-missing",
    retryable: false,
  });
});

test("an unreachable node is a retryable error", async () => {
  const gone = await startChainFixture();
  await gone.chain.stop();
  await assert.rejects(gone.client.readTip(REGION), { code: "chain-unavailable", retryable: true });
  await gone.stop();
});

test(
  "a node that never answers is a retryable error within the bound, and its connection is let go",
  { timeout: 10_000 },
  async (t) => {
    const silent = createServer().listen(0, "127.0.0.1");
    await once(silent, "listening");
    t.after(() => silent.close());
    const { port } = silent.address() as AddressInfo;
    const provider = chainProvider(`http://127.0.0.1:${port}`, CHAIN_ID, { timeoutMs: 50 });
    t.after(() => provider.destroy());
    const client = settlementClient(fixture.client.address, provider);
    const accepted = once(silent, "connection");
    await assert.rejects(client.readAuthoritySet(), { code: "chain-unavailable", retryable: true });
    const [socket] = (await accepted) as [Socket];
    socket.resume();
    if (!socket.closed) await once(socket, "close");
  },
);

test("accepted settlements can be read back from the log", async () => {
  const { settlement } = await settle(testLeaves(44, (n) => BigInt(6_000 + n)));
  const [last] = (
    await fixture.client.readSettled({ fromBlock: 0, toBlock: "latest", region: REGION })
  ).slice(-1);
  assert.ok(last !== undefined);
  const { blockNumber, blockHash, transactionHash, ...content } = last;
  const { region, round, intervalCreditWh, dataHash } = settlement;
  assert.deepEqual(content, { ...recordOf(settlement), region, round, intervalCreditWh, dataHash });
  assert.equal((await fixture.provider.getBlock(blockNumber))?.hash, blockHash);
  assert.equal((await fixture.provider.getTransactionReceipt(transactionHash))?.blockHash, blockHash);
  assert.deepEqual(await fixture.client.readSettled({ fromBlock: 0, toBlock: "latest", region: 99 }), []);
});

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { test, type TestContext } from "node:test";
import { Signature, keccak256 } from "ethers/crypto";
import type { JsonRpcProvider } from "ethers/providers";
import { Wallet } from "ethers/wallet";
import { wh } from "../domain/metering/units.ts";
import { createHasher } from "../domain/settlement/hasher.ts";
import { ZERO_HASH } from "../domain/settlement/hex.ts";
import { type MerkleSumTree, buildTree } from "../domain/settlement/merkle-sum-tree.ts";
import { recordOf, typedDomain } from "../domain/settlement/message.ts";
import type { Hex, Leaf, Settlement } from "../domain/settlement/settlement.ts";
import { settlementAbi } from "./artifact.ts";
import { chainProvider, contractError, encodePosts, settlementClient } from "./client.ts";
import { deploySettlement } from "./deploy.ts";
import { startHardhatNode } from "./local-chain/hardhat-node.ts";
import { CHAIN_ID, sign, testAccounts, testLeaves, testWallet } from "./test/chain-fixture.ts";

const START = 1_900_000_800;
const LENGTH_S = 900;
const WINDOW_S = 3_600;
const REGIONS = [1, 2];
const STARTS_WITHIN_MS = 20_000;

/** A chain of an execution client, whose first block is at START and which funds the first test wallet. */
async function startHardhat(t: TestContext): Promise<JsonRpcProvider> {
  const folder = await mkdtemp(join(tmpdir(), "gridroot-test-client-"));
  const node = await startHardhatNode({
    chainId: CHAIN_ID,
    accounts: testAccounts(),
    genesisTimestampS: START,
    host: "127.0.0.1",
    port: 0,
    folder,
  });
  const provider = chainProvider(`http://127.0.0.1:${await node.listen(node.perform)}`, CHAIN_ID, {
    pollingMs: 20,
  });
  t.after(async () => {
    provider.destroy();
    await node.close();
    await rm(folder, { recursive: true, force: true });
  });
  return provider;
}

async function startAnvil(t: TestContext): Promise<JsonRpcProvider> {
  const require = createRequire(import.meta.url);
  const binary = join(dirname(require.resolve("@foundry-rs/anvil-linux-amd64/package.json")), "bin", "anvil");
  const settings = { port: 0, "chain-id": CHAIN_ID, hardfork: "osaka", timestamp: START, accounts: 1 };
  const options = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const anvil = spawn(binary, options, { stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => end(anvil));
  const url = `http://${await listening(anvil)}`;
  const provider = chainProvider(url, CHAIN_ID, { pollingMs: 20 });
  t.after(() => provider.destroy());
  for (const { privateKey, balanceWei } of testAccounts()) {
    const { address } = new Wallet(privateKey);
    await provider.send("anvil_setBalance", [address, `0x${balanceWei.toString(16)}`]);
  }
  return provider;
}

async function listening(anvil: ChildProcess): Promise<string> {
  const lines = createInterface({ input: anvil.stdout! });
  const bound = AbortSignal.timeout(STARTS_WITHIN_MS);
  bound.addEventListener("abort", () => lines.close());
  for await (const line of lines) {
    const address = /^Listening on (\S+)/.exec(line)?.[1];
    if (address !== undefined) return address;
  }
  throw new Error("anvil does not listen");
}

async function end(anvil: ChildProcess): Promise<void> {
  if (anvil.exitCode !== null || anvil.signalCode !== null) return;
  anvil.kill("SIGKILL");
  await once(anvil, "exit");
}

/** Everything that a client says of the same history: what was sent, what it cost, what it logged, what is left. */
async function history(provider: JsonRpcProvider) {
  const deployer = testWallet(1).connect(provider);
  const authorities = [11, 12, 13].map(testWallet);
  const { address } = await deploySettlement(
    {
      authorities: authorities.map((authority) => authority.address as Hex),
      threshold: 2,
      intervalLengthS: LENGTH_S,
      windowS: WINDOW_S,
      owner: deployer.address as Hex,
      regions: REGIONS.map((regionId) => ({
        regionId,
        name: `region-${regionId}`,
        capWh: wh(1_000_000n),
        startInterval: START,
      })),
    },
    { signer: deployer, provider },
  );
  const client = settlementClient(address, provider);
  const sent: { gasUsed: number; logs: unknown[] }[] = [];
  const send = async (atS: number, data: string, from = deployer) => {
    await provider.send("evm_setNextBlockTimestamp", [atS]);
    const request = {
      to: address,
      data,
      gasLimit: 2_000_000n,
      maxFeePerGas: 10n ** 11n,
      maxPriorityFeePerGas: 1n,
    };
    const receipt = await (await from.sendTransaction(request)).wait();
    const logs = receipt!.logs.map(({ topics, data }) => ({ topics: [...topics], data }));
    sent.push({ gasUsed: Number(receipt!.gasUsed), logs });
  };
  const refusal = (data: string) =>
    provider.call({ to: address, data, from: deployer.address }).then(
      () => "accepted",
      (cause: unknown) => contractError(cause).code,
    );

  // Two regions in one transaction.
  const hasher = await createHasher();
  const leaves = [
    testLeaves(13, (n) => BigInt(100 + n)),
    [leafOf(deployer.address), ...testLeaves(4, () => 7n)],
  ].map((list) => list.toSorted((a, b) => (a.account < b.account ? -1 : 1)));
  const trees = leaves.map((list) => buildTree(hasher, list));
  const settlements = trees.map((tree, at) => settlementOf(REGIONS[at]!, tree));
  const attested = await Promise.all(
    settlements.map(async (settlement) => ({
      settlement,
      signatures: await sign(settlement, authorities.slice(0, 2), address),
    })),
  );
  const post = encodePosts(attested);
  const postedS = START + 10 * LENGTH_S;
  await send(postedS, post);

  const claim = (at: number, index: number) =>
    settlementAbi.encode("claim", [
      REGIONS[at]!,
      recordOf(settlements[at]!),
      { ...leaves[at]![index]!, index },
      trees[at]!.proofOf(index).siblings,
    ]);
  const own = leaves[1]!.findIndex(({ account }) => account === deployer.address.toLowerCase());
  const neighbours = [3, 4, 5, 6, 9];
  const batch = settlementAbi.encode("claimBatch", [
    REGIONS[0]!,
    recordOf(settlements[0]!),
    neighbours.map((index) => ({ ...leaves[0]![index]!, index })),
    trees[0]!.multiproofOf(neighbours).nodes,
  ]);
  const refusals = [await refusal(post), await refusal(claim(1, own))];
  const matureS = postedS + WINDOW_S;
  await send(matureS, claim(0, 4));
  await send(matureS + 1, batch);
  await send(matureS + 2, claim(1, own));
  await send(matureS + 3, claim(1, own));
  refusals.push(await refusal(claim(0, 4).replace(/.$/, "f")));

  // The credit.
  const spender = testWallet(2).address;
  const { v, r, s } = Signature.from(await signPermit(deployer, address, spender));
  await send(
    matureS + 4,
    settlementAbi.encode("permit", [deployer.address, spender, 5n, matureS + 4, v, r, s]),
  );
  await send(matureS + 5, settlementAbi.encode("transfer", [spender, 20n]));
  await send(matureS + 6, settlementAbi.encode("retire", [30n, "heating in January"]));
  refusals.push(await refusal(settlementAbi.encode("transfer", [spender, 1_000n])));

  const accounts = [...new Set([...leaves.flat().map(({ account }) => account), spender as Hex])];
  return {
    address,
    codeHash: keccak256(await provider.getCode(address)),
    sent,
    refusals,
    balancesWh: await Promise.all(accounts.map((account) => client.readBalanceWh(account))),
    regions: await Promise.all(REGIONS.map((region) => client.readRegion(region))),
    tips: await Promise.all(REGIONS.map((region) => client.readTip(region))),
  };
}

function leafOf(account: string): Leaf {
  return { account: account.toLowerCase() as Hex, creditWh: wh(555n), debitWh: wh(5n) };
}

function settlementOf(region: number, tree: MerkleSumTree): Settlement {
  return {
    region,
    round: 0,
    interval: START + LENGTH_S,
    prevInterval: 0,
    prevRoot: ZERO_HASH,
    root: tree.root,
    intervalCreditWh: tree.rootSumWh,
    cumulativeCreditWh: tree.rootSumWh,
    cumulativeDebitWh: wh(region === 2 ? 5n : 0n),
    leafCount: tree.leafCount,
    dataHash: ZERO_HASH,
    authoritySetEpoch: 1,
  };
}

async function signPermit(owner: Wallet, verifyingContract: Hex, spender: string): Promise<string> {
  const names = ["owner", "spender", "value", "nonce", "deadline"];
  const types = { Permit: names.map((name, at) => ({ name, type: at < 2 ? "address" : "uint256" })) };
  const deadline = START + 10 * LENGTH_S + WINDOW_S + 4;
  const message = { owner: owner.address, spender, value: 5n, nonce: 0n, deadline };
  return owner.signTypedData(typedDomain({ chainId: CHAIN_ID, verifyingContract }), types, message);
}

test("two execution clients give the same deployment, settlements, claims, costs and refusals", async (t) => {
  const [hardhat, anvil] = await Promise.all([startHardhat(t), startAnvil(t)]);
  const told = await history(hardhat);
  assert.deepEqual(await history(anvil), told);
  assert.deepEqual(told.refusals, [
    "contract-already-settled",
    "contract-record-pending",
    "contract-invalid-proof",
    "contract-erc20-insufficient-balance",
  ]);
  const claimedWh = 104n + 103n + 105n + 106n + 109n;
  assert.deepEqual(
    told.regions.map(({ mintedWh }) => mintedWh),
    [claimedWh, 550n],
  );
  assert.equal(
    told.balancesWh.reduce((sum, balance) => sum + balance, 0n),
    claimedWh + 550n - 30n,
  );
});

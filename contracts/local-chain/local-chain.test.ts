import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { type TestContext, test } from "node:test";
import type { JsonRpcProvider } from "ethers/providers";
import pino from "pino";
import type { Hex } from "../../domain/settlement/settlement.ts";
import { SettableClock } from "../../service/clock.ts";
import { noFaults } from "../../service/faults.ts";
import { chainProvider } from "../client.ts";
import { deploySettlement } from "../deploy.ts";
import { CHAIN_ID, startTestChain, testAccounts, testDeployment, testWallet } from "../test/chain-fixture.ts";
import { LOCAL_CHAIN_FAULT_POINTS, LocalChain, type LocalChainOptions } from "./local-chain.ts";

const PROCESS = new URL("../test/local-chain-process.ts", import.meta.url).pathname;

/** Starts a chain that the end of the test stops, if the test did not. */
async function startChain(t: TestContext, dataDir: string) {
  const started = await startTestChain(dataDir);
  t.after(() => started.stop());
  return started;
}

async function folder(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), "gridroot-test-chain-"));
  t.after(() => rm(path, { recursive: true, force: true }));
  return path;
}

function chainIn(
  dataDir: string,
  options: Partial<LocalChainOptions> = {},
  clock?: SettableClock,
): LocalChain {
  return new LocalChain(
    { dataDir, host: "127.0.0.1", port: 0, chainId: CHAIN_ID, accounts: testAccounts(), ...options },
    { log: pino({ level: "silent" }), faults: noFaults, ...(clock === undefined ? {} : { clock }) },
  );
}

/** Starts a chain in a process of its own; `limitKib` is the largest file it may write. */
async function spawnChain(t: TestContext, dataDir: string, faultPoint = "", limitKib?: number) {
  const limit = limitKib === undefined ? "" : `ulimit -f ${limitKib}; `;
  const script = `${limit}exec "$0" "$@"`;
  const child = spawn("bash", ["-c", script, process.execPath, PROCESS, dataDir, faultPoint], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  t.after(() => child.kill("SIGKILL"));
  const lines = createInterface({ input: child.stdout });
  const [url] = (await once(lines, "line")) as [string];
  const provider = chainProvider(url, CHAIN_ID, { pollingMs: 20 });
  t.after(() => provider.destroy());
  return { child, lines, provider };
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill("SIGKILL");
  await once(child, "exit");
}

/** A signed transfer of 1 wei with the given nonce. */
function transfer(nonce: number): Promise<string> {
  return testWallet(1).signTransaction({
    type: 2,
    chainId: CHAIN_ID,
    nonce,
    to: testWallet(2).address,
    value: 1n,
    gasLimit: 21_000n,
    maxFeePerGas: 10n ** 10n,
    maxPriorityFeePerGas: 10n ** 9n,
  });
}

async function hashes(provider: JsonRpcProvider): Promise<readonly (string | null | undefined)[]> {
  const height = await provider.getBlockNumber();
  return Promise.all(Array.from({ length: height + 1 }, async (_, n) => (await provider.getBlock(n))?.hash));
}

test("a restarted chain has the same blocks, state and receipts, and goes on", async (t) => {
  const dataDir = await folder(t);
  const first = await startChain(t, dataDir);
  const signer = testWallet(1).connect(first.provider);
  const { address } = await deploySettlement(testDeployment(), { signer, provider: first.provider });
  // Calls, estimates, refused and reverted transactions between the blocks must leave no trace.
  await first.provider.estimateGas({ from: signer.address, to: signer.address });
  await first.provider.send("eth_getBlockByNumber", ["pending", false]);
  await assert.rejects(first.provider.send("eth_sendRawTransaction", [await transfer(99)]));
  await assert.rejects(first.provider.send("eth_sendRawTransaction", ["0x02ffff"]));
  await assert.rejects(first.provider.send("eth_sendRawTransaction", ["no transaction"]));
  const reverted = await signer.sendTransaction({ to: address, data: "0xffffffff", gasLimit: 100_000n });
  await first.chain.mine(3);
  const nonce = await first.provider.getTransactionCount(signer.address);
  await first.provider.send("eth_sendRawTransaction", [await transfer(nonce)]);
  await first.provider.send("evm_mine", []);
  const before = await hashes(first.provider);
  const balance = await first.provider.getBalance(signer.address);
  await first.stop();

  const second = await startChain(t, dataDir);
  assert.deepEqual(await hashes(second.provider), before);
  assert.equal(await second.provider.getBalance(signer.address), balance);
  assert.equal((await second.provider.getTransactionReceipt(reverted.hash))?.status, 0);
  await second.provider.send("eth_sendRawTransaction", [await transfer(nonce + 1)]);
  assert.equal(await second.provider.getBlockNumber(), before.length);
});

test("kill -9 loses no block that anybody was told of, at whatever point", async (t) => {
  for (const point of LOCAL_CHAIN_FAULT_POINTS) {
    for (const occurrence of [1, 3]) {
      const dataDir = await folder(t);
      const crashing = await spawnChain(t, dataDir, `${point}:${occurrence}`);
      const exited = once(crashing.child, "exit");
      const seen = await Promise.all(
        [0, 1, 2].slice(0, occurrence - 1).map(async (nonce) => {
          await crashing.provider.send("eth_sendRawTransaction", [await transfer(nonce)]);
          return (await crashing.provider.getBlock(nonce + 1))?.hash;
        }),
      );
      const raw = await transfer(occurrence - 1);
      const answer = crashing.provider.send("eth_sendRawTransaction", [raw]).then(
        () => "answered",
        () => "no answer",
      );
      assert.deepEqual(await exited, [null, "SIGKILL"]);
      crashing.provider.destroy();
      assert.equal(await answer, "no answer");

      const { provider, stop } = await startChain(t, dataDir);
      assert.deepEqual((await hashes(provider)).slice(1, occurrence), seen);
      // What was not durable is sent again; what was is known already.
      const again = provider.send("eth_sendRawTransaction", [raw]);
      if (point === "chain.mined") await again;
      else await assert.rejects(again);
      assert.equal(await provider.getTransactionCount(testWallet(1).address), occurrence);
      await stop();
    }
  }
});

test("an unfinished last line is cut off, and the chain goes on from there", async (t) => {
  const dataDir = await folder(t);
  const first = await startChain(t, dataDir);
  for (const nonce of [0, 1, 2]) await first.provider.send("eth_sendRawTransaction", [await transfer(nonce)]);
  const before = await hashes(first.provider);
  await first.stop();
  const journal = join(dataDir, "chain", "journal.jsonl");
  await truncate(journal, (await readFile(journal)).length - 7);

  const second = await startChain(t, dataDir);
  assert.match(await readFile(journal, "utf8"), /\n$/);
  assert.deepEqual(await hashes(second.provider), before.slice(0, -1));
  await second.provider.send("eth_sendRawTransaction", [await transfer(2)]);
  const after = await hashes(second.provider);
  await second.stop();
  const third = await startChain(t, dataDir);
  assert.deepEqual(await hashes(third.provider), after);
});

test("a journal that cannot give the same blocks is refused", async (t) => {
  const dataDir = await folder(t);
  const first = await startChain(t, dataDir);
  for (const nonce of [0, 1]) await first.provider.send("eth_sendRawTransaction", [await transfer(nonce)]);
  await first.stop();
  const accounts = [{ privateKey: testWallet(3).privateKey as Hex, balanceWei: 1n }];
  await refuses(chainIn(dataDir, { accounts }), "chain-journal-differs");
  await refuses(chainIn(dataDir, { chainId: 1 }), "chain-journal-differs");

  const journal = join(dataDir, "chain", "journal.jsonl");
  const [header = "", one = "", two = ""] = (await readFile(journal, "utf8")).split("\n");
  const block = JSON.parse(two) as { timestampS: number };
  const moved = JSON.stringify({ ...block, timestampS: block.timestampS + 1 });
  await writeFile(journal, `${header}\n${one}\n${moved}\n`);
  await refuses(chainIn(dataDir), "chain-replay-differs");
  await writeFile(journal, `${header}\n${two}\n`);
  await refuses(chainIn(dataDir), "chain-journal-corrupt");
  await writeFile(journal, `${header}\n${one.slice(9)}\n${two}\n`);
  await refuses(chainIn(dataDir), "chain-journal-corrupt");
  await writeFile(journal, `{}\n`);
  await refuses(chainIn(dataDir), "chain-journal-corrupt");
});

async function refuses(chain: LocalChain, code: string): Promise<void> {
  try {
    await assert.rejects(chain.start(), { code });
  } finally {
    await chain.stop();
  }
}

test("a journal whose header was never finished begins anew", async (t) => {
  const dataDir = await folder(t);
  await (await startChain(t, dataDir)).stop();
  await writeFile(join(dataDir, "chain", "journal.jsonl"), `{"version":1,"chai`);
  const chain = await startChain(t, dataDir);
  assert.equal(await chain.provider.getBlockNumber(), 0);
});

test("a disk that takes no more halts the chain, and the next start has every block told of", async (t) => {
  const dataDir = await folder(t);
  const { child, lines, provider } = await spawnChain(t, dataDir, "", 1);
  const failed = once(lines, "line");
  const seen: (string | null | undefined)[] = [];
  let failure: unknown;
  for (let nonce = 0; failure === undefined && nonce < 20; nonce += 1) {
    try {
      await provider.send("eth_sendRawTransaction", [await transfer(nonce)]);
      seen.push((await provider.getBlock(nonce + 1))?.hash);
    } catch (error) {
      failure = error;
    }
  }
  assert.match(String(failure), /the chain's journal cannot be written/);
  assert.deepEqual(await failed, ["journal failed"]);
  await assert.rejects(provider.getBlockNumber(), /the chain's journal cannot be written/);
  await kill(child);
  assert.ok(seen.length > 0);

  const restarted = await startChain(t, dataDir);
  assert.deepEqual((await hashes(restarted.provider)).slice(1), seen);
});

test("time goes on with the clock, also while the chain was down", async (t) => {
  const dataDir = await folder(t);
  const startS = 1_800_000_000;
  const clock = new SettableClock(startS * 1000);
  const first = chainIn(dataDir, {}, clock);
  t.after(() => first.stop());
  await first.start();
  await first.mine(20);
  // Many blocks in a moment do not run ahead of the clock.
  const aheadS = (await timestampOf(first, "latest")) - startS;
  assert.ok(aheadS >= 0 && aheadS <= 10, `${aheadS} s`);
  await first.stop();

  const later = startS + 86_400;
  clock.set(later * 1000);
  const second = chainIn(dataDir, {}, clock);
  t.after(() => second.stop());
  await second.start();
  assert.equal(await timestampOf(second, "latest"), startS + aheadS, "the start mined no block");
  assert.ok((await timestampOf(second, "pending")) >= later);
  await second.mine(1);
  const minedS = (await timestampOf(second, "latest")) - later;
  assert.ok(minedS >= 0 && minedS <= 10, `${minedS} s`);
});

async function timestampOf(chain: LocalChain, tag: string): Promise<number> {
  const body = JSON.stringify({
    jsonrpc: "2.0",
    id: 1,
    method: "eth_getBlockByNumber",
    params: [tag, false],
  });
  const response = await fetch(chain.url, { method: "POST", body });
  const { result } = (await response.json()) as { result: { timestamp: string } };
  return Number(result.timestamp);
}

test("what would change state past the journal, or sign for anyone, is not served", async (t) => {
  const { provider } = await startChain(t, await folder(t));
  const { address } = testWallet(1);
  const refused: [string, unknown[]][] = [
    ["hardhat_setBalance", [address, "0x1"]],
    ["hardhat_reset", []],
    ["evm_increaseTime", [1]],
    ["evm_setNextBlockTimestamp", [4_000_000_000]],
    ["evm_revert", ["0x1"]],
    ["eth_sendTransaction", [{ from: address, to: address, value: "0x1" }]],
    ["eth_sign", [address, "0x00"]],
    ["eth_accounts", []],
    ["eth_newBlockFilter", []],
    ["eth_subscribe", ["newHeads"]],
  ];
  for (const [method, params] of refused) {
    await assert.rejects(provider.send(method, params), /the local chain does not serve/, method);
  }
  await assert.rejects(provider.send("hardhat_mine", ["0x2711"]), /up to 10000/);
  await assert.rejects(provider.send("hardhat_mine", ["many"]), /up to 10000/);
  assert.equal(await provider.getBlockNumber(), 0);
  await provider.send("hardhat_mine", ["0x5"]);
  assert.equal(await provider.getBlockNumber(), 5);
});

test("calls beyond the bound are refused, the others answered", async (t) => {
  const chain = chainIn(await folder(t), { maxWaitingCalls: 3 });
  t.after(() => chain.stop());
  await chain.start();
  const results = await Promise.allSettled(Array.from({ length: 10 }, () => chain.mine(1)));
  assert.equal(results.filter(({ status }) => status === "fulfilled").length, 3);
  for (const result of results) {
    if (result.status === "rejected") assert.match(String(result.reason), /too many calls/);
  }
});

test("a taken port is named", async (t) => {
  const taken = createServer().listen(0, "127.0.0.1");
  await once(taken, "listening");
  t.after(() => taken.close());
  const { port } = taken.address() as { port: number };
  await refuses(chainIn(await folder(t), { port }), "port-in-use");
});

test("a stop finishes what is at work and refuses the rest", async (t) => {
  const dataDir = await folder(t);
  const { chain, provider } = await startChain(t, dataDir);
  const sent = [0, 1, 2].map(async (nonce) =>
    provider.send("eth_sendRawTransaction", [await transfer(nonce)]),
  );
  const outcomes = Promise.allSettled(sent);
  await sent[0];
  await chain.stop();
  await assert.rejects(chain.mine(1), { code: "chain-stopped" });
  const answered = (await outcomes).filter(({ status }) => status === "fulfilled").length;
  provider.destroy();
  const restarted = await startChain(t, dataDir);
  assert.equal(await restarted.provider.getBlockNumber(), answered);
});

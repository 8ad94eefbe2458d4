import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { keccak256 } from "ethers/crypto";
import { chainProvider, settlementClient } from "../client.ts";
import { type HardhatNode, startHardhatNode } from "../local-chain/hardhat-node.ts";
import { testAccounts } from "../test/chain-fixture.ts";
import { AMOY, TERMS, deployer, someone } from "../test/deployment-terms.ts";
import { accessManagerAbi, settlementAbi } from "../artifact.ts";
import { installDeterministicDeployer } from "./deterministic-deployer.ts";
import { GOVERNANCE_ROLES, ROLE_FUNCTIONS } from "./governance.ts";
import { LOCAL_CHAIN_ID, runDeployment } from "./run.ts";
import { GridrootError } from "../../service/errors.ts";

/** A chain on which nothing is deployed, and a folder for the manifest. */
async function startChain(t: TestContext, chainId = AMOY) {
  const folder = await mkdtemp(join(tmpdir(), "gridroot-test-deployment-"));
  const node: HardhatNode = await startHardhatNode({
    chainId,
    accounts: testAccounts(),
    genesisTimestampS: Math.floor(Date.now() / 1000),
    host: "127.0.0.1",
    port: 0,
    folder,
  });
  const port = await node.listen(node.perform);
  const provider = chainProvider(`http://127.0.0.1:${port}`, chainId, { pollingMs: 20 });
  t.after(async () => {
    provider.destroy();
    await node.close();
    await rm(folder, { recursive: true, force: true });
  });
  const lines: string[] = [];
  const compilerInput = { version: "0.8.30", input: { language: "Solidity" } };
  const committed = () => Promise.resolve({ Settlement: compilerInput, AccessManager: compilerInput });
  const run = (
    change: Partial<Parameters<typeof runDeployment>[0]> = {},
    { wallet = deployer, compilerInputs = committed } = {},
  ) =>
    runDeployment(
      { network: "amoy", chainId, terms: TERMS, execute: true, folder, ...change },
      {
        provider,
        wallet,
        compilerInputs,
        say: (line) => void lines.push(line),
      },
    );
  const install = () => installDeterministicDeployer(deployer.connect(provider), provider);
  return { provider, folder, lines, run, install, perform: node.perform };
}

test("a real chain is only looked at, unless it is told to execute", async (t) => {
  const { provider, lines, run, install } = await startChain(t);
  await install();
  const height = await provider.getBlockNumber();
  assert.equal(await run({ execute: false }), undefined);
  assert.equal(await provider.getBlockNumber(), height);
  assert.deepEqual(
    lines.filter((line) => line.startsWith("missing")),
    [
      "missing: create AccessManager",
      "missing: create Settlement",
      "missing: register region 1 (bangkok)",
      "missing: register region 2 (northern)",
      "missing: hand governance over",
    ],
  );
  assert.match(lines.at(-1)!, /^dry run/);
});

test("a deployment's manifest tells what is on chain, and repeating it sends nothing", async (t) => {
  const { provider, folder, run, install } = await startChain(t);
  await install();
  const manifest = await run();
  assert.ok(manifest !== undefined);
  const height = await provider.getBlockNumber();
  assert.deepEqual(await run(), manifest);
  assert.equal(await provider.getBlockNumber(), height);

  const text = await readFile(join(folder, "manifest.json"), "utf8");
  assert.deepEqual(
    JSON.parse(text),
    JSON.parse(JSON.stringify(manifest, (_, v: unknown) => (typeof v === "bigint" ? `${v}` : v))),
  );
  assert.equal(manifest.chainId, AMOY);
  for (const contract of manifest.contracts) {
    assert.equal(keccak256(await provider.getCode(contract.address)), contract.codeHash);
    const receipt = await provider.getTransactionReceipt(contract.transactionHash);
    assert.equal(receipt?.blockNumber, contract.block);
    const transaction = await provider.getTransaction(contract.transactionHash);
    assert.ok(transaction?.data.endsWith(contract.encodedArguments.slice(2)));
    assert.deepEqual(JSON.parse(await readFile(join(folder, contract.compilerInput), "utf8")), {
      language: "Solidity",
    });
  }
  const settlement = manifest.contracts.find(({ name }) => name === "Settlement")!;
  const client = settlementClient(settlement.address, provider);
  assert.deepEqual(await client.readRegions(), [1, 2]);
  assert.deepEqual((await client.readAuthoritySet()).members, TERMS.authorities.toSorted());
});

test("addresses follow from terms and deployer, on every chain alike", async (t) => {
  const [amoy, local] = [await startChain(t), await startChain(t, LOCAL_CHAIN_ID)];
  await amoy.install();
  const addresses = async ({ run }: typeof amoy) => (await run())?.contracts.map(({ address }) => address);
  assert.deepEqual(await addresses(amoy), await addresses(local));
});

test("after the hand-over the deployer governs nothing, and each role's holder what is theirs", async (t) => {
  const { provider, run, install } = await startChain(t);
  await install();
  const manifest = await run();
  const [manager, settlement] = ["AccessManager", "Settlement"].map(
    (name) => manifest!.contracts.find((contract) => contract.name === name)!.address,
  ) as [string, string];
  const hasRole = async (id: number, account: string) => {
    const data = accessManagerAbi.encode("hasRole", [id, account]);
    const answer = await provider.call({ to: manager, data });
    const { isMember, executionDelay } = accessManagerAbi.decode("hasRole", answer);
    return [isMember, executionDelay];
  };
  const canCall = async (caller: string) => {
    const selector = settlementAbi.selector("registerRegion");
    const data = accessManagerAbi.encode("canCall", [caller, settlement, selector]);
    const answer = await provider.call({ to: manager, data });
    const { immediate, delay } = accessManagerAbi.decode("canCall", answer);
    return [immediate, delay];
  };
  for (const [id, role] of GOVERNANCE_ROLES.entries()) {
    const { account, delayS } = TERMS.governance[role];
    assert.deepEqual(await hasRole(id, account), [true, BigInt(delayS)], role);
    assert.deepEqual(await hasRole(id, deployer.address), [false, 0n], role);
  }
  assert.deepEqual(await canCall(deployer.address), [false, 0n]);
  assert.deepEqual(await canCall(someone(23)), [false, 3_600n]);
});

test("a region that is added after the hand-over is left to governance", async (t) => {
  const { run, install, lines, provider } = await startChain(t);
  await install();
  await run();
  const regions = [...TERMS.regions, { regionId: 3, name: "eastern", capWh: "1", startInterval: 0 }];
  const height = await provider.getBlockNumber();
  const manifest = await run({ terms: { ...TERMS, regions } });
  assert.equal(await provider.getBlockNumber(), height);
  const data = settlementAbi.encode("registerRegion", [3, "eastern", 1n, 0]);
  const { address } = manifest!.contracts.find(({ name }) => name === "Settlement")!;
  assert.deepEqual(manifest!.left, [{ name: "register region 3 (eastern)", to: address, data }]);
  assert.ok(lines.includes("left to governance: register region 3 (eastern)"));
});

test("a deployment that was interrupted after any of its transactions is completed", async (t) => {
  const whole = await startChain(t);
  await whole.install();
  const expected = await whole.run();
  const steps = whole.lines.filter((line) => line.startsWith("sending")).length;
  assert.equal(steps, 5);
  for (let done = 1; done < steps; done += 1) {
    const { provider, run, install, folder } = await startChain(t);
    await install();
    // The chain takes `done` transactions, and no more.
    const send = provider.send.bind(provider);
    let sent = 0;
    provider.send = async (method, params) => {
      if (method === "eth_sendRawTransaction" && ++sent > done) throw new Error("unplugged");
      return send(method, params as unknown[]) as Promise<unknown>;
    };
    await assert.rejects(run(), { code: "chain-unavailable" });
    provider.send = send;
    assert.equal(await readFile(join(folder, "manifest.json"), "utf8").catch(() => "none"), "none");
    const manifest = await run();
    assert.deepEqual(
      manifest?.contracts.map(({ address, codeHash }) => ({ address, codeHash })),
      expected?.contracts.map(({ address, codeHash }) => ({ address, codeHash })),
      `after ${done}`,
    );
    assert.deepEqual(manifest?.left, []);
  }
});

test("sources that have changed since the code was committed are refused before anything is sent", async (t) => {
  const { provider, run, install } = await startChain(t);
  await install();
  const height = await provider.getBlockNumber();
  const compilerInputs = () => Promise.reject(new GridrootError("artifact-stale", "stale"));
  for (const execute of [false, true]) {
    await assert.rejects(run({ execute }, { compilerInputs }), { code: "artifact-stale" });
  }
  assert.equal(await provider.getBlockNumber(), height);
});

test("a deployment waits until what it sent before a crash is mined, and then goes on", async (t) => {
  const { provider, run, install, perform } = await startChain(t);
  await install();
  await perform("evm_setAutomine", [false]);
  await deployer.connect(provider).sendTransaction({ to: deployer.address });
  await assert.rejects(run(), { code: "transactions-pending", retryable: true });
  await perform("evm_setAutomine", [true]);
  await perform("evm_mine", []);
  assert.deepEqual((await run())?.left, []);
});

test("a resumed deployment needs no logs of all blocks", async (t) => {
  const { provider, run, install } = await startChain(t);
  await install();
  const send = provider.send.bind(provider);
  let sent = 0;
  provider.send = async (method, params) => {
    if (method === "eth_sendRawTransaction" && ++sent === 2) throw new Error("unplugged");
    // As public endpoints do: a range, and not too long.
    const [{ fromBlock, toBlock } = {}] = params as { fromBlock?: string; toBlock?: string }[];
    if (method === "eth_getLogs" && (toBlock === "latest" || Number(toBlock) - Number(fromBlock) >= 1_000)) {
      throw new Error("range too long");
    }
    return send(method, params as unknown[]) as Promise<unknown>;
  };
  await assert.rejects(run(), { message: /^create Settlement: / });
  await provider.send("hardhat_mine", ["0x9c4"]);
  const manifest = await run();
  assert.deepEqual(manifest?.left, []);
  const [manager, settlement] = manifest.contracts;
  assert.ok(settlement!.block - manager!.block > 2_500);
});

test("where no run noted the beginning, an endpoint that refuses the logs of all blocks is told so", async (t) => {
  const { provider, run, install, folder } = await startChain(t);
  await install();
  await run();
  await rm(folder, { recursive: true });
  const send = provider.send.bind(provider);
  provider.send = async (method, params) => {
    if (method === "eth_getLogs") throw new Error("range too long");
    return send(method, params as unknown[]) as Promise<unknown>;
  };
  await assert.rejects(run(), { code: "logs-refused" });
});

test("an endpoint that does not answer is told by its host alone", async (t) => {
  const provider = chainProvider("http://127.0.0.1:1/v2/secret", AMOY);
  t.after(() => provider.destroy());
  const nowhere = { network: "amoy", chainId: AMOY, terms: TERMS, execute: true, folder: "nowhere" };
  const dependencies = {
    provider,
    wallet: deployer,
    compilerInputs: () => assert.fail(),
    say: () => undefined,
  };
  await assert.rejects(runDeployment(nowhere, dependencies), (error: GridrootError) => {
    assert.equal(error.code, "chain-unavailable");
    assert.match(error.message, /^127\.0\.0\.1:1 does not answer: /);
    return !error.message.includes("secret");
  });
});

test("an endpoint of another chain is refused before anything is sent", async (t) => {
  const { provider, run } = await startChain(t, LOCAL_CHAIN_ID);
  await assert.rejects(run({ chainId: AMOY }), { code: "wrong-chain" });
  assert.equal(await provider.getBlockNumber(), 0);
});

test("a real chain without the deterministic deployer is refused; a local one gets it", async (t) => {
  await assert.rejects((await startChain(t)).run(), { code: "deterministic-deployer-missing" });
  const local = await startChain(t, LOCAL_CHAIN_ID);
  await local.run({ execute: false });
  assert.equal(
    local.lines.filter((line) => line.startsWith("sending"))[0],
    "sending: install the deterministic deployer",
  );
});

test("placeholder authorities reach no chain", async (t) => {
  const { run, install, provider } = await startChain(t);
  await install();
  const height = await provider.getBlockNumber();
  const authorities = [`0x${"11".repeat(20)}`, ...TERMS.authorities.slice(1)];
  await assert.rejects(run({ terms: { ...TERMS, authorities } }), { code: "terms-invalid" });
  assert.equal(await provider.getBlockNumber(), height);
});

test("changed terms under the same label are refused, by the manifest and by the chain", async (t) => {
  const { run, install, folder } = await startChain(t);
  await install();
  const first = await run();
  const changed = { ...TERMS, windowS: 0 };
  await assert.rejects(run({ terms: changed }), { code: "contract-changed", message: /manifest/ });
  await rm(join(folder, "manifest.json"));
  await assert.rejects(run({ terms: changed }), { code: "contract-changed", message: /other terms/ });
  const second = await run({ terms: { ...changed, label: "test-2" } });
  assert.notEqual(second?.contracts[1]?.address, first?.contracts[1]?.address);
});

test("other code than the manifest's is noticed", async (t) => {
  const { run, install, folder } = await startChain(t);
  await install();
  const manifest = await run();
  const file = join(folder, "manifest.json");
  const text = await readFile(file, "utf8");
  await writeFile(file, text.replace(manifest!.contracts[1]!.codeHash, `0x${"00".repeat(32)}`));
  await assert.rejects(run(), { code: "contract-changed", message: /other code than the manifest/ });
});

test("a region that was registered otherwise is noticed", async (t) => {
  const { run, install } = await startChain(t);
  await install();
  await run();
  const regions = TERMS.regions.map((region) => ({ ...region, name: `${region.name}-2` }));
  await assert.rejects(run({ terms: { ...TERMS, regions } }), {
    code: "contract-changed",
    message: /region 1 as bangkok/,
  });
});

test("other code in the place of a contract is noticed", async (t) => {
  const { run, install, perform, lines } = await startChain(t);
  await install();
  await run({ execute: false });
  for (const line of lines.filter((line) => / at 0x/.test(line))) {
    const [, address] = /at (0x[0-9a-f]{40})$/.exec(line)!;
    await perform("hardhat_setCode", [address, "0x00"]);
    await assert.rejects(run(), { code: "contract-changed", message: /other code at/ });
    await perform("hardhat_setCode", [address, "0x"]);
  }
  assert.ok(await run());
});

test("every restricted function belongs to one role", async () => {
  const source = await readFile(new URL("../src/Governance.sol", import.meta.url), "utf8");
  const restricted = [...source.matchAll(/function (\w+)\([^)]*\)\s+external\s+restricted/g)].map(
    ([, name]) => name,
  );
  assert.ok(restricted.length > 0);
  assert.deepEqual(Object.values(ROLE_FUNCTIONS).flat().sort(), restricted.sort());
});

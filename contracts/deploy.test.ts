import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { wh } from "../domain/metering/units.ts";
import type { Hex } from "../domain/settlement/settlement.ts";
import { isSettlementCode, settlementSourceHash } from "./artifact.ts";
import { settlementClient } from "./client.ts";
import { type SettlementDeployment, deploySettlement } from "./deploy.ts";
import { hashSources } from "./generate.ts";
import { REGION, startTestChain, testDeployment, testWallet } from "./test/chain-fixture.ts";

test("the committed contract was compiled from the committed sources", async () => {
  assert.equal(settlementSourceHash, await hashSources(), "run `npm run contracts:build`");
});

test("a repeated deployment changes nothing but registers regions that are new", async (t) => {
  const { provider, stop } = await startTestChain();
  t.after(stop);
  const signer = testWallet(1).connect(provider);
  const deployed = await deploySettlement(testDeployment(), { signer, provider });
  assert.deepEqual(deployed, { address: deployed.address, block: 1 });
  const height = await provider.getBlockNumber();
  assert.deepEqual(await deploySettlement(testDeployment(), { signer, provider }), deployed);
  assert.equal(await provider.getBlockNumber(), height);

  const { regions, ...terms } = testDeployment();
  const another = { regionId: 8, name: "northern", capWh: wh(5n), startInterval: 0 };
  // A later start of an existing region is no change: the chain's stands.
  const moved = regions.map((region) => ({ ...region, startInterval: region.startInterval + 900 }));
  await deploySettlement({ ...terms, regions: [...moved, another] }, { signer, provider });
  const client = settlementClient(deployed.address, provider);
  assert.deepEqual(await client.readRegions(), [REGION, 8]);
  assert.deepEqual(await client.readRegion(8), {
    region: 8,
    name: "northern",
    capWh: 5n,
    startInterval: 0,
    mintedWh: 0n,
  });
  assert.equal((await client.readRegion(REGION)).startInterval, regions[0]!.startInterval);
});

test("a deployment that differs from the chain's asks for a reset", async (t) => {
  const { provider, stop } = await startTestChain();
  t.after(stop);
  const signer = testWallet(1).connect(provider);
  await deploySettlement(testDeployment(), { signer, provider });
  const region = testDeployment().regions[0]!;
  const changes: Partial<SettlementDeployment>[] = [
    { authorities: [11, 12, 14].map((n) => testWallet(n).address as Hex) },
    { threshold: 3 },
    { intervalLengthS: 1800 },
    { owner: testWallet(2).address as Hex },
    { regions: [{ ...region, name: "northern" }] },
    { regions: [{ ...region, capWh: wh(1n) }] },
  ];
  for (const change of changes) {
    const changed = deploySettlement({ ...testDeployment(), ...change }, { signer, provider });
    await assert.rejects(changed, { code: "contract-changed" }, Object.keys(change).join());
  }
});

test("other code in the contract's place is noticed", async (t) => {
  const { provider, stop } = await startTestChain();
  t.after(stop);
  const signer = testWallet(1).connect(provider);
  // Creation code that leaves one byte of code behind: 0x00.
  await (await signer.sendTransaction({ data: "0x60015ff3" })).wait();
  await assert.rejects(deploySettlement(testDeployment(), { signer, provider }), {
    code: "contract-changed",
  });
});

test("a deployer that was used before is refused", async (t) => {
  const { provider, stop } = await startTestChain();
  t.after(stop);
  const signer = testWallet(1).connect(provider);
  await (await signer.sendTransaction({ to: signer.address, value: 1n })).wait();
  await assert.rejects(deploySettlement(testDeployment(), { signer, provider }), { code: "deployer-used" });
});

test("deployed code is recognised in spite of its immutable values, and nothing else is", async () => {
  const text = await readFile(new URL("./generated/Settlement.json", import.meta.url), "utf8");
  const { deployedBytecode, immutables } = JSON.parse(text) as {
    deployedBytecode: string;
    immutables: { start: number; length: number }[];
  };
  const withDigit = (at: number, digit: string) =>
    `${deployedBytecode.slice(0, at)}${digit}${deployedBytecode.slice(at + 1)}`;
  assert.ok(immutables.length > 0);
  for (const { start } of immutables) assert.ok(isSettlementCode(withDigit(2 + 2 * start, "f")));
  assert.equal(isSettlementCode(withDigit(2 + 2 * immutables[0]!.start - 1, "0")), false);
  assert.equal(isSettlementCode(`${deployedBytecode}00`), false);
  assert.equal(isSettlementCode("0x"), false);
});

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
  // After the deterministic deployer's two, and the manager's.
  assert.deepEqual(deployed, { address: deployed.address, block: 4 });
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
    pausedUntil: 0,
    openVetoes: 0,
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
    { windowS: 60 },
    { regions: [{ ...region, name: "northern" }] },
    { regions: [{ ...region, capWh: wh(1n) }] },
  ];
  for (const change of changes) {
    const changed = deploySettlement({ ...testDeployment(), ...change }, { signer, provider });
    await assert.rejects(changed, { code: "contract-changed" }, Object.keys(change).join());
  }
});

test("regions are added by the owner only", async (t) => {
  const { provider, stop } = await startTestChain();
  t.after(stop);
  const signer = testWallet(1).connect(provider);
  const owned = { ...testDeployment(), owner: testWallet(2).address as Hex };
  await deploySettlement(owned, { signer, provider });
  const another = { regionId: 8, name: "northern", capWh: wh(5n), startInterval: 0 };
  const more = deploySettlement({ ...owned, regions: [...owned.regions, another] }, { signer, provider });
  await assert.rejects(more, { code: "deploy-failed", message: /register region 8/ });
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

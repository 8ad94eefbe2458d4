import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Wallet } from "ethers/wallet";
import { chainProvider, settlementClient } from "../client.ts";
import { readLocalKey, startLocalNode } from "./local.ts";
import { runDeployment } from "./run.ts";

test("a local chain comes with everything deployed and funded accounts, and goes on after a restart", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "gridroot-test-node-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  assert.equal(await readLocalKey(folder), undefined);
  const first = await startLocalNode({ folder, port: 0 });
  const provider = chainProvider(first.url, first.chainId);
  const client = settlementClient(first.settlement, provider);
  assert.deepEqual(await client.readRegions(), [1, 2]);
  for (const name of ["deployer", "relayer", "customer-1"]) {
    assert.ok((await provider.getBalance(first.accounts[name]!)) > 10n ** 21n, name);
  }
  const height = await provider.getBlockNumber();

  // A deployment to it finds nothing missing.
  const lines: string[] = [];
  const manifest = await runDeployment(
    {
      network: "local",
      chainId: first.chainId,
      terms: JSON.parse(await readFile(join(folder, "terms.json"), "utf8")) as unknown,
      execute: false,
      folder,
    },
    {
      provider,
      wallet: new Wallet((await readLocalKey(folder))!),
      compilerInputs: () => {
        const input = { version: "", input: {} };
        return Promise.resolve({ Settlement: input, AccessManager: input });
      },
      say: (line) => void lines.push(line),
    },
  );
  assert.ok(lines.includes("nothing is missing"));
  assert.equal(manifest?.contracts[1]?.address, first.settlement);
  provider.destroy();
  await first.stop();

  const second = await startLocalNode({ folder, port: 0 });
  const again = chainProvider(second.url, second.chainId);
  t.after(async () => {
    again.destroy();
    await second.stop();
  });
  assert.equal(second.settlement, first.settlement);
  assert.deepEqual(second.accounts, first.accounts);
  assert.equal(await again.getBlockNumber(), height);
});

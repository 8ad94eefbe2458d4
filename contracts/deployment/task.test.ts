import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { getCreate2Address } from "ethers/address";
import { keccak256 } from "ethers/crypto";
import { concat } from "ethers/utils";
import { encryptKeystoreJson } from "ethers/wallet";
import { chainProvider } from "../client.ts";
import { startHardhatNode } from "../local-chain/hardhat-node.ts";
import { testAccounts } from "../test/chain-fixture.ts";
import { AMOY, TERMS, deployer } from "../test/deployment-terms.ts";
import { DETERMINISTIC_DEPLOYER, installDeterministicDeployer } from "./deterministic-deployer.ts";
import type { DeploymentManifest } from "./manifest.ts";

const REPOSITORY = new URL("../../", import.meta.url);

interface CompilerInput {
  readonly settings: object;
}

interface CompilerOutput {
  readonly contracts: Readonly<
    Record<
      string,
      Readonly<Record<string, { readonly evm: { readonly bytecode: { readonly object: string } } }>>
    >
  >;
}

test("the command deploys what its manifest's compiler input gives, with a key from a keystore", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "gridroot-test-command-"));
  const node = await startHardhatNode({
    chainId: AMOY,
    accounts: testAccounts(),
    genesisTimestampS: Math.floor(Date.now() / 1000),
    host: "127.0.0.1",
    port: 0,
    folder,
  });
  const url = `http://127.0.0.1:${await node.listen(node.perform)}`;
  const provider = chainProvider(url, AMOY, { pollingMs: 20 });
  t.after(async () => {
    provider.destroy();
    await node.close();
    await rm(folder, { recursive: true });
  });
  await installDeterministicDeployer(deployer.connect(provider), provider);
  const { address, privateKey } = deployer;
  const keystore = await encryptKeystoreJson({ address, privateKey }, "a password", { scrypt: { N: 2 } });
  const files = { keystore, password: "a password\n", terms: JSON.stringify(TERMS) };
  for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text);
  const deploy = async (network: string, options: readonly string[]) => {
    const hardhat = ["hardhat", "deploy", "--network", network, "--folder", folder, ...options];
    const env = { ...process.env, AMOY_RPC_URL: url, POLYGON_RPC_URL: url, DEPLOYER_PRIVATE_KEY: "" };
    return promisify(execFile)("npx", hardhat, { cwd: REPOSITORY, env });
  };
  const terms = ["--terms", join(folder, "terms")];
  const key = ["--keystore", join(folder, "keystore"), "--password-file", join(folder, "password")];

  // Refusals are one line, without a trace.
  for (const [network, options, refusal] of [
    ["amoy", terms, /^key-missing: .*\n$/],
    ["polygon", [...terms, ...key], /^wrong-chain: polygon is chain 137, but the endpoint serves 80002\n$/],
    ["amoy", key, /^terms-invalid: the terms are refused:\nauthorities\[0\]\.address: nobody is named\n/],
  ] as const) {
    await assert.rejects(deploy(network, options), (error: { stderr: string; code: number }) => {
      const stderr = error.stderr.replaceAll(/^npm warn .*\n/gm, "");
      assert.match(stderr, refusal);
      assert.doesNotMatch(stderr, /^ +at /m);
      return error.code === 1;
    });
  }
  assert.match((await deploy("amoy", [...terms, ...key])).stdout, /dry run: nothing was sent/);
  assert.match((await deploy("amoy", [...terms, ...key, "--execute"])).stdout, /manifest\.json written/);

  const manifest = JSON.parse(await readFile(join(folder, "manifest.json"), "utf8")) as DeploymentManifest;
  const solc = createRequire(import.meta.url)("solc") as { compile(input: string): string };
  for (const { name, salt, encodedArguments, address: deployed, codeHash, ...rest } of manifest.contracts) {
    const input = JSON.parse(await readFile(join(folder, rest.compilerInput), "utf8")) as CompilerInput;
    // Of all that the input names, only this contract.
    const only = { "*": { [name]: ["evm.bytecode.object"] } };
    const settings = { ...input.settings, outputSelection: only };
    const output = JSON.parse(solc.compile(JSON.stringify({ ...input, settings }))) as CompilerOutput;
    const [compiled] = Object.values(output.contracts).flatMap((file) => file[name] ?? []);
    const creation = keccak256(concat([`0x${compiled!.evm.bytecode.object}`, encodedArguments]));
    assert.equal(getCreate2Address(DETERMINISTIC_DEPLOYER, salt, creation).toLowerCase(), deployed, name);
    assert.equal(keccak256(await provider.getCode(deployed)), codeHash, name);
  }
});

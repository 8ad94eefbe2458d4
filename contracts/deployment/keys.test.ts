import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { encryptKeystoreJson } from "ethers/wallet";
import { testWallet } from "../test/chain-fixture.ts";
import { readDeployerKey } from "./keys.ts";

const { address, privateKey } = testWallet(77);

test("the deployer's key comes from the environment or from an encrypted file", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "gridroot-test-keys-"));
  t.after(() => rm(folder, { recursive: true }));
  const file = join(folder, "deployer.json");
  await writeFile(
    file,
    await encryptKeystoreJson({ address, privateKey }, "a password", { scrypt: { N: 2 } }),
  );
  const from = (password: string) =>
    readDeployerKey({ keystore: { file, password: () => Promise.resolve(password) } });

  assert.equal((await from("a password")).address, address);
  assert.equal((await readDeployerKey({ privateKey })).address, address);
  await assert.rejects(from("another password"), { code: "key-unreadable" });
});

test("no key, and two, are refused", async () => {
  const keystore = { file: "deployer.json", password: () => Promise.resolve("") };
  for (const source of [{}, { privateKey, keystore }]) {
    await assert.rejects(readDeployerKey(source), { code: "key-missing" });
  }
});

test("what cannot be read is not repeated", async () => {
  const secret = `${privateKey}00`;
  await assert.rejects(readDeployerKey({ privateKey: secret }), (error: Error & { code?: string }) => {
    assert.equal(error.code, "key-unreadable");
    assert.equal(error.cause, undefined);
    return !error.message.includes(secret.slice(2));
  });
});

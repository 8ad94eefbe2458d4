import { readFile } from "node:fs/promises";
import { Wallet } from "ethers/wallet";
import { GridrootError } from "../../service/errors.ts";

/** Where the deployer's key comes from: exactly one of the two. */
export interface KeySource {
  /** 32 bytes in hex, from the environment. */
  readonly privateKey?: string;
  /** A file in the encrypted JSON format (Web3 Secret Storage), and who knows its password. */
  readonly keystore?: { readonly file: string; readonly password: () => Promise<string> };
}

/**
 * The deployer's wallet, not connected to any chain. Rejects with `key-missing` where there is no source or two, and
 * with `key-unreadable`, which never repeats the key or the password.
 */
export async function readDeployerKey({ privateKey, keystore }: KeySource): Promise<Wallet> {
  if ((privateKey === undefined) === (keystore === undefined)) {
    throw new GridrootError(
      "key-missing",
      "a deployment needs one key: either DEPLOYER_PRIVATE_KEY in the environment or --keystore",
    );
  }
  try {
    if (privateKey !== undefined) return new Wallet(privateKey);
    const json = await readFile(keystore!.file, "utf8");
    const wallet = await Wallet.fromEncryptedJson(json, await keystore!.password());
    return new Wallet(wallet.privateKey);
  } catch {
    // The cause is left out, because ethers repeats what it could not read.
    const source =
      keystore === undefined
        ? "DEPLOYER_PRIVATE_KEY is no private key"
        : `${keystore.file} or its password is wrong`;
    throw new GridrootError("key-unreadable", source);
  }
}

import { getCreate2Address } from "ethers/address";
import { keccak256 } from "ethers/crypto";
import type { Provider, Signer } from "ethers/providers";
import { concat } from "ethers/utils";
import type { Hex } from "../../domain/settlement/settlement.ts";
import { GridrootError } from "../../service/errors.ts";

/**
 * The deterministic deployment proxy that most chains have at the same address: called with a salt and creation
 * code, it creates the contract by CREATE2. Nobody owns it, and a contract's address follows from salt and creation
 * code alone, whoever sends it.
 */
export const DETERMINISTIC_DEPLOYER: Hex = "0x4e59b44847b379578588920ca78fbf26c0b4956c";

/** The proxy's code, by which it is recognised. */
export const DETERMINISTIC_DEPLOYER_CODE: Hex =
  "0x7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe03601600081602082378035828234f58015156039578182fd5b8082525050506014600cf3";

// Signed without a chain id by nobody's key (r and s were chosen, the signer follows), so that it is valid on every
// chain and nothing else can ever be.
const INSTALLATION: Hex =
  "0xf8a58085174876e800830186a08080b853604580600e600039806000f350fe7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe03601600081602082378035828234f58015156039578182fd5b8082525050506014600cf31ba02222222222222222222222222222222222222222222222222222222222222222a02222222222222222222222222222222222222222222222222222222222222222";
const INSTALLER: Hex = "0x3fab184622dc19b6109349b94811493bf2a45362";
/** 100,000 gas at 100 gwei, as the installation offers. */
const INSTALLATION_COST_WEI = 10n ** 16n;

/** Where the deployer creates this code with this salt. */
export function deterministicAddress(salt: Hex, creationCode: Hex): Hex {
  const address = getCreate2Address(DETERMINISTIC_DEPLOYER, salt, keccak256(creationCode));
  return address.toLowerCase() as Hex;
}

/** The calldata that asks the deployer to create this code with this salt. */
export function deterministicCreation(salt: Hex, creationCode: Hex): Hex {
  return concat([salt, creationCode]) as Hex;
}

/** Whether the deployer is there. Rejects with `contract-changed` where other code has its address. */
export async function hasDeterministicDeployer(provider: Provider): Promise<boolean> {
  const code = await provider.getCode(DETERMINISTIC_DEPLOYER);
  if (code !== "0x" && code !== DETERMINISTIC_DEPLOYER_CODE) {
    throw new GridrootError("contract-changed", `other code at ${DETERMINISTIC_DEPLOYER}`);
  }
  return code !== "0x";
}

/**
 * Installs the deployer on a local chain that lacks it, at the funder's expense. May be repeated after a crash at any
 * point. Real chains have it; where one had not, its nodes would have to accept a transaction without a chain id.
 */
export async function installDeterministicDeployer(funder: Signer, provider: Provider): Promise<void> {
  const missingWei = INSTALLATION_COST_WEI - (await provider.getBalance(INSTALLER));
  if (missingWei > 0n) {
    await (await funder.sendTransaction({ to: INSTALLER, value: missingWei })).wait();
  }
  await (await provider.broadcastTransaction(INSTALLATION)).wait();
}

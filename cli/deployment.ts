import { join } from "node:path";
import { Wallet } from "ethers";
import { chainProvider } from "../contracts/client.ts";
import { deploySettlement } from "../contracts/deploy.ts";
import { wh } from "../domain/metering/units.ts";
import type { Hex } from "../domain/settlement/settlement.ts";
import type { Settings } from "../service/configuration.ts";
import type { Grid } from "../service/grid.ts";
import { type Keys, readOrCreateKeys } from "../service/keys.ts";

/** The keys that the embedded profile needs: deployer, relayer and each authority. */
export function embeddedKeys(settings: Settings, grid: Grid): Promise<Keys> {
  const owners = [
    "deployer",
    "relayer",
    ...grid.authorities.map((authority) => authorityOwner(authority.name)),
  ];
  return readOrCreateKeys(join(settings.dataDir, "keys.json"), owners);
}

/** The name under which an authority's key is kept. */
export function authorityOwner(name: string): string {
  return `authority-${name}`;
}

/** The address of a private key, lower case. */
export function addressOf(privateKey: string): Hex {
  return new Wallet(privateKey).address.toLowerCase() as Hex;
}

/**
 * The settlement contract of the embedded profile: deployed where it is missing, checked where it is there. Regions
 * are registered to begin at the last boundary on or before `regionsStartS`, unix seconds.
 * Resolves with its address. Rejects with `contract-changed` where the chain holds another version or other terms.
 */
export async function deployEmbedded(
  settings: Settings,
  grid: Grid,
  keys: Keys,
  regionsStartS: number,
): Promise<Hex> {
  const provider = chainProvider(settings.chainRpcUrl, settings.chainId);
  try {
    const deployer = new Wallet(keys["deployer"] ?? "", provider);
    const { address } = await deploySettlement(
      {
        authorities: grid.authorities.map(({ name }) => addressOf(keys[authorityOwner(name)] ?? "")),
        threshold: grid.threshold,
        intervalLengthS: grid.intervalLengthS,
        owner: deployer.address as Hex,
        regions: grid.regions.map(({ regionId, name, capWh }) => ({
          regionId,
          name,
          capWh: wh(capWh),
          startInterval: regionsStartS - (regionsStartS % grid.intervalLengthS),
        })),
      },
      { signer: deployer, provider },
    );
    return address;
  } finally {
    provider.destroy();
  }
}

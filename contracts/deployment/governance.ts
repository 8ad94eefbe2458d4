import type { Provider } from "ethers/providers";
import type { Hex } from "../../domain/settlement/settlement.ts";
import { accessManagerAbi, settlementAbi } from "../artifact.ts";
import type { AccessManagerAbi, SettlementAbi } from "../generated/abi.ts";
import type { RoleHolder } from "./terms.ts";

/**
 * Who decides what, as roles of the AccessManager; a role's number is its place. `admin` grants roles and changes
 * which role a function needs.
 */
export const GOVERNANCE_ROLES = ["admin", "authoritySet", "caps", "pause", "rulings"] as const;
export type GovernanceRole = (typeof GOVERNANCE_ROLES)[number];

/** The restricted functions of the settlement contract, each with the role that may call it. */
export const ROLE_FUNCTIONS: Readonly<
  Record<Exclude<GovernanceRole, "admin">, readonly (keyof SettlementAbi["functions"])[]>
> = {
  authoritySet: ["rotateAuthorities", "cancelRotation", "reinstateAuthority"],
  caps: ["registerRegion", "setCap"],
  pause: ["pauseRegion", "resumeRegion"],
  rulings: ["ruleVeto"],
};

const ADMIN = 0;

/** Who acts in each role. */
export type GovernanceTerms = Readonly<Record<GovernanceRole, RoleHolder>>;

/** Where governance takes place. */
export interface GovernedContract {
  readonly manager: Hex;
  readonly settlement: Hex;
}

/**
 * The one call to the manager that gives functions to roles and roles to their holders, and takes the deployer's own
 * admin role away, in a single transaction: nobody ever sees the half of it.
 */
export function encodeHandOver(
  { settlement }: GovernedContract,
  governance: GovernanceTerms,
  deployer: Hex,
): Hex {
  const calls: Hex[] = [];
  const call = <Name extends keyof ManagerFunctions>(method: Name, given: ManagerFunctions[Name]["given"]) =>
    calls.push(accessManagerAbi.encode(method, given));
  for (const [role, functions] of Object.entries(ROLE_FUNCTIONS)) {
    const id = roleId(role as GovernanceRole);
    call("labelRole", [id, role]);
    call("setTargetFunctionRole", [settlement, functions.map((name) => settlementAbi.selector(name)), id]);
    const { account, delayS } = governance[role as GovernanceRole];
    call("grantRole", [id, account, delayS]);
  }
  const { account, delayS } = governance.admin;
  const keeps = account.toLowerCase() === deployer.toLowerCase();
  // Granting what the deployer has already would only set its delay.
  if (!keeps || delayS > 0) call("grantRole", [ADMIN, account, delayS]);
  if (!keeps) call("renounceRole", [ADMIN, deployer]);
  return accessManagerAbi.encode("multicall", [calls]);
}

/**
 * Whether governance was handed over: every function has been given to its role. Holders may have changed since, as
 * governance is free to do.
 */
export async function isHandedOver(contract: GovernedContract, provider: Provider): Promise<boolean> {
  for (const [role, functions] of Object.entries(ROLE_FUNCTIONS)) {
    for (const name of functions) {
      const given = [contract.settlement, settlementAbi.selector(name)] as const;
      const current = await ask(provider, contract.manager, "getTargetFunctionRole", given);
      if (Number(current) !== roleId(role as GovernanceRole)) return false;
    }
  }
  return true;
}

/** Whether `caller` may call the function at once, without announcing it first. */
export async function mayCall(
  contract: GovernedContract,
  caller: Hex,
  name: keyof SettlementAbi["functions"],
  provider: Provider,
): Promise<boolean> {
  const given = [caller, contract.settlement, settlementAbi.selector(name)] as const;
  return (await ask(provider, contract.manager, "canCall", given)).immediate;
}

/** The number of a role on chain. */
export function roleId(role: GovernanceRole): number {
  return GOVERNANCE_ROLES.indexOf(role);
}

type ManagerFunctions = AccessManagerAbi["functions"];

async function ask<Name extends keyof ManagerFunctions>(
  provider: Provider,
  manager: Hex,
  method: Name,
  given: ManagerFunctions[Name]["given"],
): Promise<ManagerFunctions[Name]["answered"]> {
  const data = accessManagerAbi.encode(method, given);
  return accessManagerAbi.decode(method, await provider.call({ to: manager, data }));
}

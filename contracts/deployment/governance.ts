import type { Provider } from "ethers/providers";
import type { Hex } from "../../domain/settlement/settlement.ts";
import { GridrootError } from "../../service/errors.ts";
import { accessManagerInterface, settlementInterface } from "../artifact.ts";
import type { RoleHolder } from "./terms.ts";

/**
 * Who decides what, as roles of the AccessManager; a role's number is its place. `admin` grants roles and changes
 * which role a function needs.
 */
export const GOVERNANCE_ROLES = ["admin", "authoritySet", "caps", "pause", "rulings"] as const;
export type GovernanceRole = (typeof GOVERNANCE_ROLES)[number];

/** The restricted functions of the settlement contract, each with the role that may call it. */
export const ROLE_FUNCTIONS: Readonly<Record<Exclude<GovernanceRole, "admin">, readonly string[]>> = {
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
  const call = (method: string, args: readonly unknown[]) =>
    calls.push(accessManagerInterface.encodeFunctionData(method, args) as Hex);
  for (const [role, functions] of Object.entries(ROLE_FUNCTIONS)) {
    const id = roleId(role as GovernanceRole);
    call("labelRole", [id, role]);
    call("setTargetFunctionRole", [settlement, functions.map(selectorOf), id]);
    const { account, delayS } = governance[role as GovernanceRole];
    call("grantRole", [id, account, delayS]);
  }
  const { account, delayS } = governance.admin;
  const keeps = account.toLowerCase() === deployer.toLowerCase();
  // Granting what the deployer has already would only set its delay.
  if (!keeps || delayS > 0) call("grantRole", [ADMIN, account, delayS]);
  if (!keeps) call("renounceRole", [ADMIN, deployer]);
  return accessManagerInterface.encodeFunctionData("multicall", [calls]) as Hex;
}

/**
 * Whether governance was handed over: every function has been given to its role. Holders may have changed since, as
 * governance is free to do.
 */
export async function isHandedOver(contract: GovernedContract, provider: Provider): Promise<boolean> {
  for (const [role, functions] of Object.entries(ROLE_FUNCTIONS)) {
    for (const name of functions) {
      const args = [contract.settlement, selectorOf(name)];
      const [current] = await ask(provider, contract.manager, "getTargetFunctionRole", args);
      if (Number(current) !== roleId(role as GovernanceRole)) return false;
    }
  }
  return true;
}

/** Whether `caller` may call the function at once, without announcing it first. */
export async function mayCall(
  contract: GovernedContract,
  caller: Hex,
  name: string,
  provider: Provider,
): Promise<boolean> {
  const args = [caller, contract.settlement, selectorOf(name)];
  const [immediate] = await ask(provider, contract.manager, "canCall", args);
  return immediate === true;
}

/** The number of a role on chain. */
export function roleId(role: GovernanceRole): number {
  return GOVERNANCE_ROLES.indexOf(role);
}

function selectorOf(name: string): string {
  const fragment = settlementInterface.getFunction(name);
  if (fragment === null) throw new GridrootError("invariant", `the contract has no function ${name}`);
  return fragment.selector;
}

async function ask(
  provider: Provider,
  manager: Hex,
  method: string,
  args: readonly unknown[],
): Promise<readonly unknown[]> {
  const data = accessManagerInterface.encodeFunctionData(method, args);
  return accessManagerInterface.decodeFunctionResult(method, await provider.call({ to: manager, data }));
}

import { getAddress } from "ethers/address";
import { HDNodeWallet } from "ethers/wallet";
import { type Wh, wh } from "../../domain/metering/units.ts";
import type { Hex } from "../../domain/settlement/settlement.ts";
import { GridrootError } from "../../service/errors.ts";
import { GOVERNANCE_ROLES, type GovernanceRole } from "./governance.ts";

/** A region as it is registered on chain. */
export interface RegionDeployment {
  /** 1 to 2^32 - 1. */
  readonly regionId: number;
  /** 1 to 31 bytes; unique. */
  readonly name: string;
  /** The most credit one interval of the region can add; above 0, below 2^39. */
  readonly capWh: Wh;
  /** Unix seconds, a multiple of the interval length; the first settlement ends after it. */
  readonly startInterval: number;
}

/** Who may act in a role, and how long after having announced it. */
export interface RoleHolder {
  readonly account: Hex;
  /** Seconds between announcing an action and being able to execute it. */
  readonly delayS: number;
}

/** Everything that a deployment consists of; with the deployer's address, its contracts' addresses follow from it. */
export interface DeploymentTerms {
  /** Tells deployments with equal terms apart; 1 to 31 characters. */
  readonly label: string;
  readonly intervalLengthS: number;
  /** How long a record stays open to veto. */
  readonly windowS: number;
  /** How many authorities must sign a settlement. */
  readonly threshold: number;
  /** How many of them veto a pending record. */
  readonly vetoThreshold: number;
  /** 1 to 32 addresses, lower case, ascending. */
  readonly authorities: readonly Hex[];
  readonly governance: Readonly<Record<GovernanceRole, RoleHolder>>;
  readonly regions: readonly RegionDeployment[];
}

/** The mnemonic that development chains fund: its keys are known to everybody. */
const DEVELOPMENT_MNEMONIC = "test test test test test test test test test test test junk";
const DEVELOPMENT_ACCOUNTS = 20;

/**
 * The terms that a parsed JSON file states. All faults are reported together, in one `terms-invalid`.
 *
 * On a real chain an address must be somebody's: neither zero, nor a filler such as `0xdead...` or one repeated
 * byte, nor so small that it is a precompile or a test's, nor of a key that every development chain publishes.
 */
export function parseTerms(json: unknown, { realChain }: { readonly realChain: boolean }): DeploymentTerms {
  const faults: string[] = [];
  const file = new TermsReader("", json, faults);
  const address = (reader: TermsReader, name: string): Hex => {
    const text = reader.string(name);
    const fault = addressFault(text, realChain);
    if (text === "") faults.push(`${reader.path}${name}: nobody is named`);
    else if (fault !== undefined) faults.push(`${reader.path}${name}: ${text} is ${fault}`);
    return text.toLowerCase() as Hex;
  };
  const intervalLengthS = file.integer("intervalLengthS", 1, 86_400);
  const authorities = file.list("authorities").map((_, at, list) => address(list[at]!, "address"));
  for (const repeated of new Set(authorities.filter((one, at) => one && authorities.indexOf(one) < at))) {
    faults.push(`authorities: ${repeated} is named twice`);
  }
  const threshold = file.integer("threshold", 1, Math.max(1, authorities.length));
  const spare = Math.max(0, authorities.length - threshold);
  const roles = file.child("governance");
  const terms: DeploymentTerms = {
    label: file.text("label", 31),
    intervalLengthS,
    windowS: file.integer("windowS", 0, 30 * 86_400),
    threshold,
    vetoThreshold: file.integer("vetoThreshold", Math.min(1, spare), spare),
    authorities: authorities.toSorted(),
    governance: Object.fromEntries(
      GOVERNANCE_ROLES.map((role) => {
        const holder = roles.child(role);
        return [
          role,
          { account: address(holder, "account"), delayS: holder.integer("delayS", 0, 30 * 86_400) },
        ];
      }),
    ) as Record<GovernanceRole, RoleHolder>,
    regions: file.list("regions").map((region) => ({
      regionId: region.integer("regionId", 1, 2 ** 32 - 1),
      name: region.text("name", 31),
      capWh: wh(region.amount("capWh")),
      startInterval: region.multiple("startInterval", intervalLengthS),
    })),
  };
  if (faults.length > 0)
    throw new GridrootError("terms-invalid", `the terms are refused:\n${faults.join("\n")}`);
  return terms;
}

/** Why nobody can stand behind the address; `undefined` where somebody can. */
function addressFault(text: string, realChain: boolean): string | undefined {
  if (!/^0x[0-9a-f]{40}$/i.test(text)) return "no address";
  const digits = text.slice(2);
  const mixedCase = digits !== digits.toLowerCase() && digits !== digits.toUpperCase();
  if (mixedCase && getAddress(text.toLowerCase()) !== text) return "misspelt, by its checksum";
  const value = BigInt(text);
  if (value === 0n) return "the zero address";
  if (!realChain) return undefined;
  if (
    value < 1n << 64n ||
    /^(..)\1*$/.test(digits) ||
    /dead|beef|cafe/i.test(digits.slice(0, 4) + digits.slice(-4))
  )
    return "a placeholder";
  return developmentAddresses().has(text.toLowerCase()) ? "of a key that everybody knows" : undefined;
}

let known: ReadonlySet<string> | undefined;

function developmentAddresses(): ReadonlySet<string> {
  if (known === undefined) {
    const root = HDNodeWallet.fromPhrase(DEVELOPMENT_MNEMONIC, undefined, "m/44'/60'/0'/0");
    const wallets = Array.from({ length: DEVELOPMENT_ACCOUNTS }, (_, index) => root.deriveChild(index));
    known = new Set(wallets.map((wallet) => wallet.address.toLowerCase()));
  }
  return known;
}

/** Reads the fields of one JSON object; a fault is noted with its path, and stands in as a harmless value. */
class TermsReader {
  readonly path: string;
  readonly #fields: Readonly<Record<string, unknown>>;
  readonly #faults: string[];

  constructor(path: string, json: unknown, faults: string[]) {
    this.path = path;
    this.#faults = faults;
    if (typeof json === "object" && json !== null && !Array.isArray(json)) {
      this.#fields = json as Record<string, unknown>;
    } else {
      this.#fields = {};
      faults.push(`${path || "the file"}: an object was expected`);
    }
  }

  child(name: string): TermsReader {
    return new TermsReader(`${this.path}${name}.`, this.#fields[name], this.#faults);
  }

  /** The objects of a list; a plain text in it is read as `{ address }`. */
  list(name: string): readonly TermsReader[] {
    const list = this.#fields[name];
    if (!Array.isArray(list)) {
      this.#faults.push(`${this.path}${name}: a list was expected`);
      return [];
    }
    if (list.length === 0 && name === "authorities")
      this.#faults.push(`${this.path}${name}: nobody is named`);
    return list.map((entry: unknown, at) => {
      const fields = typeof entry === "string" ? { address: entry } : entry;
      return new TermsReader(`${this.path}${name}[${at}].`, fields, this.#faults);
    });
  }

  string(name: string): string {
    const value = this.#fields[name];
    return typeof value === "string" ? value : "";
  }

  text(name: string, maxLength: number): string {
    const value = this.#fields[name];
    if (typeof value === "string" && value.length > 0 && Buffer.byteLength(value) <= maxLength) return value;
    this.#faults.push(`${this.path}${name}: a text of 1 to ${maxLength} bytes was expected`);
    return "";
  }

  integer(name: string, min: number, max: number): number {
    const value = this.#fields[name];
    if (typeof value === "number" && Number.isInteger(value) && value >= min && value <= max) return value;
    this.#faults.push(`${this.path}${name}: an integer from ${min} to ${max} was expected`);
    return min;
  }

  multiple(name: string, of: number): number {
    const value = this.integer(name, 0, 2 ** 40);
    if (value % of !== 0) this.#faults.push(`${this.path}${name}: ${value} is no multiple of ${of}`);
    return value;
  }

  /** Decimal text, as JSON's numbers are not exact. */
  amount(name: string): bigint {
    const value = this.#fields[name];
    if (typeof value === "string" && /^[1-9][0-9]{0,11}$/.test(value) && BigInt(value) < 1n << 39n) {
      return BigInt(value);
    }
    this.#faults.push(`${this.path}${name}: a decimal number above 0 and below 2^39, as text, was expected`);
    return 1n;
  }
}

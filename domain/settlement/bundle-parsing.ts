import { isName } from "../metering/topics.ts";
import { type Wh, wh } from "../metering/units.ts";
import { SettlementError } from "./errors.ts";
import { isHex } from "./hex.ts";
import type { IndexedLeaf, ProofNode } from "./merkle-sum-tree.ts";
import type { SettlementContent, SettlementRecord } from "./message.ts";
import {
  BUNDLE_VERSION,
  type BundlePoint,
  type BundleSignature,
  type PreviousFigures,
  type ProofBundle,
} from "./proof-bundle.ts";
import type { Hex } from "./settlement.ts";
import { MAX_WH } from "./tree-preimages.ts";

/** A path through 2^32 leaves has 32 siblings. */
const MAX_SIBLINGS = 32;
const MAX_POINTS = 10_000;
const MAX_SIGNATURES = 256;

/**
 * Reads a bundle's JSON text. Throws `bundle-malformed`, naming the field, for what is missing, unknown, of another
 * type, out of range or not in canonical form: two readers never understand the same text differently.
 */
export function parseBundle(text: string): ProofBundle {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw malformed("bundle", "is not JSON");
  }
  const fields = new Fields(json, "bundle");
  const version = fields.count("version", 255);
  if (version !== BUNDLE_VERSION) throw malformed("version", `is ${version}`);
  const region = fields.object("region");
  const regionNumber = region.count("number", 2 ** 32 - 1);
  const regionName = region.name("name");
  region.end();
  const bundle = {
    version: BUNDLE_VERSION,
    domain: {
      chainId: fields.count("chainId", Number.MAX_SAFE_INTEGER),
      verifyingContract: fields.hex("contract", 20),
    },
    regionName,
    settlement: readSettlement(fields.object("settlement"), regionNumber),
    record: readRecord(fields.object("record")),
    leaf: readLeaf(fields.object("leaf")),
    heldWh: fields.amount("heldWh"),
    siblings: fields.list("siblings", MAX_SIBLINGS).map(readSibling),
    points: fields.list("points", MAX_POINTS).map(readPoint),
    ...(fields.has("previous") && { previous: readPrevious(fields.object("previous")) }),
    signatures: fields.list("signatures", MAX_SIGNATURES).map(readSignature),
  } as const;
  fields.end();
  return bundle;
}

function readSettlement(fields: Fields, region: number): SettlementContent {
  const settlement = {
    region,
    round: fields.count("round", 2 ** 32 - 1),
    interval: fields.count("interval"),
    prevInterval: fields.count("prevInterval"),
    prevRoot: fields.hex("prevRoot", 32),
    root: fields.hex("root", 32),
    intervalCreditWh: fields.amount("intervalCreditWh"),
    cumulativeCreditWh: fields.amount("cumulativeCreditWh"),
    cumulativeDebitWh: fields.amount("cumulativeDebitWh"),
    leafCount: fields.count("leafCount", 2 ** 32 - 1),
    dataHash: fields.hex("dataHash", 32),
  };
  fields.end();
  return settlement;
}

function readRecord(fields: Fields): SettlementRecord {
  const record = {
    contentHash: fields.hex("contentHash", 32),
    root: fields.hex("root", 32),
    interval: fields.count("interval"),
    cumulativeCreditWh: fields.amount("cumulativeCreditWh"),
    cumulativeDebitWh: fields.amount("cumulativeDebitWh"),
    leafCount: fields.count("leafCount", 2 ** 32 - 1),
  };
  fields.end();
  return record;
}

function readLeaf(fields: Fields): IndexedLeaf {
  const leaf = {
    index: fields.count("index", 2 ** 32 - 1),
    account: fields.hex("account", 20),
    creditWh: fields.amount("creditWh"),
    debitWh: fields.amount("debitWh"),
  };
  fields.end();
  return leaf;
}

function readSibling(fields: Fields): ProofNode {
  const node = { hash: fields.hex("hash", 32), sumWh: fields.amount("sumWh") };
  fields.end();
  return node;
}

function readPoint(fields: Fields): BundlePoint {
  const point = {
    servicePoint: fields.name("servicePoint"),
    creditWh: fields.amount("creditWh"),
    meterId: fields.name("meterId"),
    epoch: fields.count("epoch", 2 ** 32 - 1),
    seq: fields.count("seq"),
    t: fields.count("t"),
    previousCreditWh: fields.amount("previousCreditWh"),
  };
  fields.end();
  return point;
}

function readPrevious(fields: Fields): PreviousFigures {
  const previous = {
    interval: fields.count("interval"),
    creditWh: fields.amount("creditWh"),
    debitWh: fields.amount("debitWh"),
    heldWh: fields.amount("heldWh"),
  };
  fields.end();
  return previous;
}

function readSignature(fields: Fields): BundleSignature {
  const signature = {
    authority: fields.hex("authority", 20),
    authoritySetEpoch: fields.count("authoritySetEpoch", 2 ** 32 - 1),
    signature: fields.hex("signature", 65),
  };
  fields.end();
  return signature;
}

/** An object whose fields are taken one by one; `end` refuses what nobody took. */
class Fields {
  readonly #values: Readonly<Record<string, unknown>>;
  readonly #path: string;
  readonly #left: Set<string>;

  constructor(value: unknown, path: string) {
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw malformed(path, "is no object");
    }
    this.#values = value as Readonly<Record<string, unknown>>;
    this.#path = path;
    this.#left = new Set(Object.keys(value));
  }

  has(name: string): boolean {
    return this.#left.has(name);
  }

  object(name: string): Fields {
    return new Fields(this.#take(name), this.#at(name));
  }

  list(name: string, most: number): Fields[] {
    const value = this.#take(name);
    if (!Array.isArray(value)) throw malformed(this.#at(name), "is no array");
    if (value.length > most) throw malformed(this.#at(name), `has more than ${most} items`);
    return value.map((item, i) => new Fields(item, `${this.#at(name)}[${i}]`));
  }

  count(name: string, most: number = Number.MAX_SAFE_INTEGER): number {
    const value = this.#take(name);
    if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0 || value > most) {
      throw malformed(this.#at(name), `is no integer from 0 to ${most}`);
    }
    return value;
  }

  amount(name: string): Wh {
    const value = this.#take(name);
    if (typeof value !== "string" || !/^(0|[1-9][0-9]{0,19})$/.test(value) || BigInt(value) > MAX_WH) {
      throw malformed(this.#at(name), "is no decimal string of at most 2^64 - 1");
    }
    return wh(value);
  }

  hex(name: string, length: number): Hex {
    const value = this.#take(name);
    if (!isHex(value, length)) throw malformed(this.#at(name), `is not ${length} bytes in lower-case hex`);
    return value;
  }

  name(name: string): string {
    const value = this.#take(name);
    if (typeof value !== "string" || !isName(value)) throw malformed(this.#at(name), "is no name");
    return value;
  }

  end(): void {
    const [unknown] = this.#left;
    if (unknown !== undefined) throw malformed(this.#at(unknown.slice(0, 64)), "is not known");
  }

  #take(name: string): unknown {
    if (!this.#left.delete(name)) throw malformed(this.#at(name), "is missing");
    return this.#values[name];
  }

  #at(name: string): string {
    return `${this.#path}.${name}`;
  }
}

function malformed(field: string, what: string): SettlementError {
  return new SettlementError("bundle-malformed", `${field} ${what}`);
}

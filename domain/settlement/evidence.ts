import { isName } from "../metering/topics.ts";
import { type Wh, wh } from "../metering/units.ts";
import { ByteReader, ByteWriter } from "./bytes.ts";
import { SettlementError } from "./errors.ts";
import type { Keccak } from "./hasher.ts";
import { toHex } from "./hex.ts";
import type { Hex, Leaf } from "./settlement.ts";

/** A service point's cumulative credit C(b) at the batch's boundary, and the reading it was taken from. */
export interface EvidencePoint {
  readonly servicePoint: string;
  /** Unwrapped over epochs and meters, since the account took the service point over. */
  readonly creditWh: Wh;
  readonly meterId: string;
  readonly epoch: number;
  readonly seq: number;
  /** Unix seconds; at most the batch's interval. */
  readonly t: number;
}

/** An account's leaf and why it is so: `creditWh - debitWh + heldWh` is the sum of its points' `creditWh`. */
export interface EvidenceAccount extends Leaf {
  /** Above the region's cap so far; first in line in the next batch. */
  readonly heldWh: Wh;
  /** Strictly ascending by service point; at least one. */
  readonly points: readonly EvidencePoint[];
}

/** How far a partition of the region's topic was consumed when the batch was sealed. */
export interface PartitionOffset {
  readonly partition: number;
  readonly nextOffset: bigint;
}

/** All that a batch is computed from and all of its leaves. */
export interface Evidence {
  readonly region: number;
  readonly round: number;
  /** The batch's end, unix seconds. */
  readonly interval: number;
  readonly intervalLengthS: number;
  /** Of the batch it chains to; 0 and zero hashes for a region's first. */
  readonly prevInterval: number;
  readonly prevRoot: Hex;
  readonly prevDataHash: Hex;
  /** The most that one interval may credit in this region. */
  readonly capWh: Wh;
  readonly registryVersion: bigint;
  /** Strictly ascending by partition. */
  readonly offsets: readonly PartitionOffset[];
  /** Strictly ascending by account; position is the leaf's index. */
  readonly accounts: readonly EvidenceAccount[];
}

/** The first byte of a file. */
export const EVIDENCE_VERSION = 1;

/**
 * The canonical file: one content has one encoding. Big-endian, no padding.
 *
 *     u8       version, 1
 *     u32 u32  region, round
 *     u64 u32  interval, intervalLengthS
 *     u64      prevInterval
 *     32 32    prevRoot, prevDataHash
 *     u64 u64  capWh, registryVersion
 *     u32      number of partitions, and for each, ascending:
 *       u32 u64    partition, nextOffset
 *     u32      number of accounts, and for each, ascending:
 *       20         account
 *       u64 u64 u64  creditWh, debitWh, heldWh
 *       u32        number of points, at least 1, and for each, ascending by service point:
 *         u8 ASCII   service point (1 to 64 characters)
 *         u64        creditWh
 *         u8 ASCII   meter id (1 to 64 characters)
 *         u32 u64 u64  epoch, seq, t
 *
 * Throws `evidence-malformed` where the content is unsorted, out of range or has an account without a point.
 */
export function encodeEvidence(evidence: Evidence): Uint8Array {
  const out = new ByteWriter();
  out.u8(EVIDENCE_VERSION);
  out.u32(evidence.region);
  out.u32(evidence.round);
  out.u64(evidence.interval);
  out.u32(evidence.intervalLengthS);
  out.u64(evidence.prevInterval);
  out.hex(evidence.prevRoot, 32);
  out.hex(evidence.prevDataHash, 32);
  out.u64(evidence.capWh);
  out.u64(evidence.registryVersion);
  checkAscending(evidence.offsets, (offset) => offset.partition, "partitions");
  out.u32(evidence.offsets.length);
  for (const { partition, nextOffset } of evidence.offsets) {
    out.u32(partition);
    out.u64(nextOffset);
  }
  checkAscending(evidence.accounts, (account) => account.account, "accounts");
  out.u32(evidence.accounts.length);
  for (const account of evidence.accounts) writeAccount(out, account);
  return out.bytes();
}

function writeAccount(out: ByteWriter, account: EvidenceAccount): void {
  checkPoints(account);
  out.hex(account.account, 20);
  out.u64(account.creditWh);
  out.u64(account.debitWh);
  out.u64(account.heldWh);
  out.u32(account.points.length);
  for (const point of account.points) {
    out.name(point.servicePoint);
    out.u64(point.creditWh);
    out.name(point.meterId);
    out.u32(point.epoch);
    out.u64(point.seq);
    out.u64(point.t);
  }
}

/** Reads a canonical file. Throws `evidence-malformed` for every byte sequence that `encodeEvidence` never writes. */
export function decodeEvidence(file: Uint8Array): Evidence {
  const input = new ByteReader(file);
  const version = input.u8();
  if (version !== EVIDENCE_VERSION) throw malformed(`version ${version}`);
  const header = {
    region: input.u32(),
    round: input.u32(),
    interval: input.safeU64(),
    intervalLengthS: input.u32(),
    prevInterval: input.safeU64(),
    prevRoot: input.hex(32),
    prevDataHash: input.hex(32),
    capWh: wh(input.u64()),
    registryVersion: input.u64(),
  };
  const offsets = input.list(() => ({ partition: input.u32(), nextOffset: input.u64() }));
  checkAscending(offsets, (offset) => offset.partition, "partitions");
  const accounts = input.list(() => readAccount(input));
  checkAscending(accounts, (account) => account.account, "accounts");
  input.end();
  return { ...header, offsets, accounts };
}

function readAccount(input: ByteReader): EvidenceAccount {
  const account = {
    account: input.hex(20),
    creditWh: wh(input.u64()),
    debitWh: wh(input.u64()),
    heldWh: wh(input.u64()),
    points: input.list(() => readPoint(input)),
  };
  checkPoints(account);
  return account;
}

function readPoint(input: ByteReader): EvidencePoint {
  return {
    servicePoint: input.name(),
    creditWh: wh(input.u64()),
    meterId: input.name(),
    epoch: input.u32(),
    seq: input.safeU64(),
    t: input.safeU64(),
  };
}

/** keccak256 of a file before compression: the message's `dataHash`. */
export function dataHash(hasher: Keccak, file: Uint8Array): Hex {
  return toHex(hasher.digest(file));
}

function checkPoints(account: EvidenceAccount): void {
  if (account.points.length === 0) throw malformed(`${account.account} has no service point`);
  checkAscending(account.points, (point) => point.servicePoint, `points of ${account.account}`);
  for (const { servicePoint, meterId } of account.points) {
    if (!isName(servicePoint) || !isName(meterId)) throw malformed(`a point of ${account.account}`);
  }
}

function checkAscending<T>(items: readonly T[], keyOf: (item: T) => number | string, what: string): void {
  for (let i = 1; i < items.length; i += 1) {
    if (!(keyOf(items[i - 1]!) < keyOf(items[i]!))) throw malformed(`${what} are not strictly ascending`);
  }
}

function malformed(detail: string): SettlementError {
  return new SettlementError("evidence-malformed", `evidence file: ${detail}`);
}

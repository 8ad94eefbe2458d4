import { type SettlementContent, contentHash } from "../../domain/settlement/message.ts";
import { ZERO_HASH } from "../../domain/settlement/hex.ts";
import type { Hex } from "../../domain/settlement/settlement.ts";

/** How the model answers: with the name of the contract's error, or with nothing where the call succeeds. */
export type Outcome = string | undefined;

export interface ModelTerms {
  readonly members: readonly string[];
  readonly threshold: number;
  readonly vetoThreshold: number;
  readonly windowS: number;
  readonly intervalLengthS: number;
  readonly startInterval: number;
  readonly regions: readonly number[];
  readonly capWh: bigint;
}

export interface ModelRotation {
  readonly epoch: number;
  readonly threshold: number;
  readonly vetoThreshold: number;
  readonly members: readonly string[];
}

interface ModelRecord {
  readonly content: SettlementContent;
  readonly hash: Hex;
  readonly parent: ModelRecord | undefined;
  readonly validAt: number;
  state: "live" | "dropped" | "gone";
}

interface ModelRegion {
  tip: ModelRecord | undefined;
  /** The tip's, but 0 after a veto that found the parent's slot taken. */
  debitWh: bigint;
  round: number;
  lastValidAt: number;
  pausedUntil: number;
  /** Who vetoed, by the round that the veto ended. */
  readonly vetoes: Map<number, readonly string[]>;
  readonly openRounds: Set<number>;
  stoppedEpoch: number;
  /** By ring position. */
  readonly ring: Map<number, ModelRecord>;
}

const RING = 256;
const PAUSE_S = 7 * 86_400;
const BETWEEN_PAUSES_S = 86_400;

/**
 * What the settlement contract does with posts, vetoes, rotations, evidence and pauses, in plain lists: every record
 * knows its parent and is marked when it is dropped. Signers are names; that signatures are who they say is not its
 * matter. Addresses are lower case, lists of them ascend.
 */
export class SettlementModel {
  readonly #terms: ModelTerms;
  readonly #regions = new Map<number, ModelRegion>();
  readonly #suspended = new Set<string>();
  readonly #proven = new Set<string>();
  readonly #spentRotations = new Set<string>();
  #set: { members: readonly string[]; threshold: number; vetoThreshold: number };
  #epoch = 1;
  #selfRotatedEpoch = 0;
  #rotation: { readonly text: string; readonly executableAt: number } | undefined;

  constructor(terms: ModelTerms) {
    this.#terms = terms;
    this.#set = terms;
    for (const number of terms.regions) {
      this.#regions.set(number, {
        tip: undefined,
        debitWh: 0n,
        round: 0,
        lastValidAt: 0,
        pausedUntil: 0,
        vetoes: new Map(),
        openRounds: new Set(),
        stoppedEpoch: 0,
        ring: new Map(),
      });
    }
  }

  post(content: SettlementContent, epoch: number, signers: readonly string[], nowS: number): Outcome {
    if (signers.length !== this.#set.threshold) return "WrongSignatureCount";
    const region = this.#region(content.region);
    const hash = contentHash(content);
    const position = this.#position(content.interval);
    const occupant = region.ring.get(position);
    if (occupant?.hash === hash && occupant.state === "live") return "AlreadySettled";
    if (region.openRounds.size > 0) return "RegionStopped";
    if (nowS < region.pausedUntil) return "RegionPaused";
    const fault = this.#continuationFault(region, content, nowS);
    if (fault !== undefined) return fault;
    if (occupant !== undefined && occupant.state !== "gone" && occupant.validAt > nowS) return "RingFull";
    if (epoch !== this.#epoch) return "WrongEpoch";
    if (!signers.every((signer) => this.#isActive(signer))) return "InvalidSignature";

    const validAt = Math.max(nowS + this.#terms.windowS, region.lastValidAt + 1);
    if (occupant !== undefined) occupant.state = "gone";
    const record: ModelRecord = { content, hash, parent: region.tip, validAt, state: "live" };
    region.ring.set(position, record);
    region.lastValidAt = validAt;
    region.tip = record;
    region.debitWh = content.cumulativeDebitWh;
    return undefined;
  }

  veto(content: SettlementContent, signers: readonly string[], nowS: number): Outcome {
    if (this.#set.vetoThreshold === 0) return "NoVeto";
    if (signers.length !== this.#set.vetoThreshold) return "WrongSignatureCount";
    if (!signers.every((signer) => this.#isActive(signer))) return "InvalidSignature";
    const region = this.#region(content.region);
    const record = this.#retained(region, content);
    if (record === undefined) return "UnknownRecord";
    if (record.state === "dropped") return "RecordDropped";
    if (!this.#isOpenToVeto(region, record, nowS)) return "RecordMature";
    region.vetoes.set(region.round, signers);
    region.openRounds.add(region.round);
    region.stoppedEpoch = this.#epoch;
    for (let at = region.tip; at !== record.parent; at = at?.parent)
      if (at !== undefined) at.state = "dropped";
    region.tip = record.parent;
    region.debitWh = record.parent?.state === "live" ? record.parent.content.cumulativeDebitWh : 0n;
    region.round += 1;
    return undefined;
  }

  rule(number: number, round: number, founded: boolean): Outcome {
    const region = this.#region(number);
    const signers = region.vetoes.get(round);
    if (signers === undefined) return "UnknownVeto";
    region.vetoes.delete(round);
    if (!founded) for (const signer of signers) this.#suspended.add(signer);
    if (region.openRounds.delete(round) && region.openRounds.size === 0) this.#forgetDropped(region);
    return undefined;
  }

  reopen(number: number): Outcome {
    const region = this.#region(number);
    if (region.openRounds.size === 0 || this.#selfRotatedEpoch <= region.stoppedEpoch) return "NotReopenable";
    region.openRounds.clear();
    this.#forgetDropped(region);
    return undefined;
  }

  report(
    one: SettlementContent,
    signers: readonly string[],
    other: SettlementContent,
    others: readonly string[],
    nowS: number,
  ): Outcome {
    const samePlace =
      one.region === other.region && one.round === other.round && one.interval === other.interval;
    if (!samePlace || contentHash(one) === contentHash(other)) return "NotEquivocation";
    if (![...signers, ...others].every((signer) => this.#set.members.includes(signer)))
      return "InvalidSignature";
    const region = this.#region(one.region);
    const place = `${one.region}/${one.round}/${one.interval}`;
    const pause = `pause/${this.#epoch}/${one.region}`;
    const caught = signers.filter(
      (signer) =>
        others.includes(signer) && !this.#suspended.has(signer) && !this.#proven.has(`${place}/${signer}`),
    );
    const { threshold, members } = this.#set;
    const isCompromised =
      signers.length >= threshold &&
      others.length >= threshold &&
      nowS >= region.pausedUntil &&
      !this.#proven.has(pause);
    if (caught.length === 0 && !isCompromised) return "NothingProven";
    for (const signer of caught) {
      this.#proven.add(`${place}/${signer}`);
      this.#suspended.add(signer);
    }
    if (isCompromised) this.#proven.add(pause);
    const active = members.filter((member) => this.#isActive(member)).length;
    if ((isCompromised || active < threshold) && nowS >= region.pausedUntil)
      region.pausedUntil = nowS + PAUSE_S;
    return undefined;
  }

  pause(number: number, nowS: number): Outcome {
    const region = this.#region(number);
    if (nowS < region.pausedUntil + BETWEEN_PAUSES_S) return "PausedRecently";
    region.pausedUntil = nowS + PAUSE_S;
    return undefined;
  }

  resume(number: number, nowS: number): Outcome {
    const region = this.#region(number);
    if (nowS >= region.pausedUntil) return "NotPaused";
    region.pausedUntil = nowS;
    return undefined;
  }

  reinstate(member: string): Outcome {
    return this.#suspended.delete(member) ? undefined : "NotSuspended";
  }

  propose(rotation: ModelRotation, signers: readonly string[], nowS: number): Outcome {
    if (rotation.epoch !== this.#epoch) return "WrongEpoch";
    if (signers.length !== this.#set.threshold) return "WrongSignatureCount";
    if (!signers.every((signer) => this.#isActive(signer))) return "InvalidSignature";
    const text = JSON.stringify(rotation);
    if (this.#spentRotations.has(text)) return "RotationSpent";
    if (rotation.members.some((member) => this.#suspended.has(member))) return "InvalidAuthorities";
    this.#spentRotations.add(text);
    this.#rotation = { text, executableAt: nowS + 2 * this.#terms.windowS };
    return undefined;
  }

  execute(rotation: ModelRotation, nowS: number): Outcome {
    if (this.#rotation?.text !== JSON.stringify(rotation)) return "UnknownRotation";
    if (nowS < this.#rotation.executableAt) return "RotationPending";
    const fault = this.rotate(rotation);
    if (fault === undefined) this.#selfRotatedEpoch = this.#epoch;
    return fault;
  }

  cancel(): Outcome {
    if (this.#rotation === undefined) return "UnknownRotation";
    this.#rotation = undefined;
    return undefined;
  }

  rotate(next: Omit<ModelRotation, "epoch">): Outcome {
    if (next.members.some((member) => this.#suspended.has(member))) return "InvalidAuthorities";
    this.#set = next;
    this.#epoch += 1;
    this.#rotation = undefined;
    return undefined;
  }

  status(content: SettlementContent, nowS: number): "unknown" | "pending" | "claimable" | "dropped" {
    const region = this.#region(content.region);
    const record = this.#retained(region, content);
    if (record === undefined) return "unknown";
    if (record.state === "dropped") return "dropped";
    return this.#isOpenToVeto(region, record, nowS) ? "pending" : "claimable";
  }

  tip(number: number) {
    const { tip, debitWh, round, pausedUntil, openRounds } = this.#region(number);
    return {
      round,
      interval: tip?.content.interval ?? 0,
      root: tip?.content.root ?? ZERO_HASH,
      cumulativeCreditWh: tip?.content.cumulativeCreditWh ?? 0n,
      cumulativeDebitWh: debitWh,
      pausedUntil,
      openVetoes: openRounds.size,
    };
  }

  get authorities() {
    const { members, threshold, vetoThreshold } = this.#set;
    return {
      epoch: this.#epoch,
      threshold,
      vetoThreshold,
      members,
      suspended: members.filter((member) => this.#suspended.has(member)),
    };
  }

  #continuationFault(region: ModelRegion, content: SettlementContent, nowS: number): Outcome {
    const { intervalLengthS, startInterval, capWh } = this.#terms;
    const tip = this.tip(content.region);
    if (content.round !== region.round) return "WrongRound";
    if (content.prevInterval !== tip.interval || content.prevRoot !== tip.root) return "WrongParent";
    const from = tip.interval === 0 ? startInterval : tip.interval;
    if (content.interval <= from || content.interval % intervalLengthS !== 0) return "InvalidInterval";
    if (content.interval > nowS) return "InvalidInterval";
    if (content.leafCount === 0) return "EmptyTree";
    if (content.cumulativeCreditWh !== tip.cumulativeCreditWh + content.intervalCreditWh)
      return "InvalidTotals";
    if (content.cumulativeDebitWh < tip.cumulativeDebitWh) return "InvalidTotals";
    const elapsed = BigInt((content.interval - from) / intervalLengthS);
    return content.intervalCreditWh > capWh * elapsed ? "CapExceeded" : undefined;
  }

  #retained(region: ModelRegion, content: SettlementContent): ModelRecord | undefined {
    const occupant = region.ring.get(this.#position(content.interval));
    return occupant?.hash === contentHash(content) && occupant.state !== "gone" ? occupant : undefined;
  }

  #isOpenToVeto(region: ModelRegion, { validAt }: ModelRecord, nowS: number): boolean {
    return nowS < validAt || (nowS < region.pausedUntil && validAt > region.pausedUntil - PAUSE_S);
  }

  #forgetDropped(region: ModelRegion): void {
    for (const record of region.ring.values()) if (record.state === "dropped") record.state = "gone";
  }

  #position(interval: number): number {
    return (interval / this.#terms.intervalLengthS) % RING;
  }

  #isActive(member: string): boolean {
    return this.#set.members.includes(member) && !this.#suspended.has(member);
  }

  #region(number: number): ModelRegion {
    const region = this.#regions.get(number);
    if (region === undefined) throw new Error(`no region ${number} in the model`);
    return region;
  }
}

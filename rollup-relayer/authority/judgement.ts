import type { RegionTip } from "../../contracts/client.ts";
import { dataHash } from "../../domain/settlement/evidence.ts";
import {
  type AgreedTerms,
  type EvidenceFault,
  verifyEvidence,
} from "../../domain/settlement/evidence-verification.ts";
import type { Keccak } from "../../domain/settlement/hasher.ts";
import { ZERO_HASH } from "../../domain/settlement/hex.ts";
import type { SettlementContent } from "../../domain/settlement/message.ts";
import type { Hex } from "../../domain/settlement/settlement.ts";
import type { Clock } from "../../service/clock.ts";
import type { FaultPoints } from "../../service/faults.ts";
import type { BatchSource, OfferedBatch } from "./batch-source.ts";
import type { AuthorityStore } from "./store.ts";

/** Why an authority refuses a batch for ever, beside what the evidence itself shows. */
export type RefusalReason =
  EvidenceFault | "region-unknown" | "round-over" | "chain-differs" | "conflicting-batch";

/** Why a batch cannot be judged yet. */
export type WaitReason = "round-unknown" | "parent-unknown";

export type Judgement =
  /** `file` where the evidence was verified just now, not in an earlier run. */
  | { readonly kind: "sign"; readonly file?: Uint8Array }
  | { readonly kind: "refuse"; readonly reason: RefusalReason }
  | { readonly kind: "wait"; readonly reason: WaitReason };

/** A batch that was found good, and its file. */
export interface VerifiedBatch {
  readonly content: SettlementContent;
  readonly file: Uint8Array;
}

/** What is known when a batch is judged. */
export interface Situation {
  /** The region's tip on chain; may be some batches behind. */
  readonly tip: RegionTip;
  readonly terms: AgreedTerms;
  /** What this key is bound to for the batch's place. */
  readonly bound: Hex | undefined;
  /** The batch of this region that was judged last under the same tip, where it was found good. */
  readonly last: VerifiedBatch | undefined;
}

/** What a judgement needs. */
export interface JudgementDependencies {
  readonly store: AuthorityStore;
  readonly source: BatchSource;
  readonly hasher: Keccak;
  readonly clock: Clock;
  readonly faults: FaultPoints;
}

/**
 * Judges a batch from its evidence, the authority's own store and the region's tip on chain. Where the tip is behind,
 * the batch has to follow from it by batches that this authority has verified itself. The evidence is in the store
 * before it is judged. Rejects, retryable, where the API or the store fails.
 */
export async function judge(
  batch: OfferedBatch,
  situation: Situation,
  dependencies: JudgementDependencies,
): Promise<Judgement> {
  const { content, contentHash } = batch;
  const { bound, tip, terms } = situation;
  if (bound !== undefined) return bound === contentHash ? SIGN : refuse("conflicting-batch");
  const place = placeByTip(content, tip) ?? (await placeByOwnBatches(content, situation, dependencies.store));
  if (place.kind !== "sign") return place;
  const file = await fetchEvidence(batch.region, content, dependencies);
  const previousFile =
    content.prevInterval === 0 ? undefined : await parentFile(batch, situation, dependencies);
  dependencies.faults.hit("authority.evidence-kept");
  const verdict = verifyEvidence(dependencies.hasher, file, previousFile, content, terms);
  return verdict.ok ? { kind: "sign", file } : refuse(verdict.reason);
}

const SIGN: Judgement = { kind: "sign" };

function refuse(reason: RefusalReason): Judgement {
  return { kind: "refuse", reason };
}

/** Whether the tip alone says that the batch is in its place or out of it. */
function placeByTip(content: SettlementContent, tip: RegionTip): Judgement | undefined {
  const { round, interval, prevInterval, prevRoot } = content;
  if (round < tip.round) return refuse("round-over");
  if (round > tip.round) return { kind: "wait", reason: "round-unknown" };
  if (prevInterval === tip.interval) return prevRoot === tip.root ? SIGN : refuse("chain-differs");
  if (interval === tip.interval && content.root !== tip.root) return refuse("chain-differs");
  // The chain has gone past the parent without this batch.
  if (prevInterval < tip.interval && tip.interval < interval) return refuse("chain-differs");
  if (prevInterval > 0 || round > 0) return undefined;
  return prevRoot === ZERO_HASH ? SIGN : refuse("chain-differs");
}

/** Whether the batch continues batches verified here, of which the tip is one, or which come after it. */
async function placeByOwnBatches(
  content: SettlementContent,
  { tip, last }: Situation,
  store: AuthorityStore,
): Promise<Judgement> {
  const { region, round, prevInterval, prevRoot } = content;
  if (last?.content.interval === prevInterval && last.content.round === round) {
    return last.content.root === prevRoot ? SIGN : refuse("chain-differs");
  }
  const parent = await store.findIntent(region, round, prevInterval);
  if (parent === undefined) return { kind: "wait", reason: "parent-unknown" };
  if (parent.root !== prevRoot) return refuse("chain-differs");
  if (tip.interval === 0 || tip.interval > prevInterval) return SIGN;
  const accepted = await store.findIntent(region, round, tip.interval);
  return accepted?.root === tip.root ? SIGN : { kind: "wait", reason: "parent-unknown" };
}

async function fetchEvidence(
  region: string,
  place: Pick<SettlementContent, "region" | "round" | "interval">,
  { store, source, hasher, clock }: JudgementDependencies,
): Promise<Uint8Array> {
  const file = await source.evidence(region, place.round, place.interval);
  // Under the hash of its own bytes: what the API served stays on record even where it is not what was promised.
  await store.keepEvidence(place, dataHash(hasher, file), file, clock.nowMs());
  return file;
}

/** The parent's file: the one verified here, or else the API's, which `verifyEvidence` binds to `prevRoot`. */
async function parentFile(
  { region: name, content }: OfferedBatch,
  { last }: Situation,
  dependencies: JudgementDependencies,
): Promise<Uint8Array> {
  const { region, round, prevInterval } = content;
  if (last?.content.interval === prevInterval && last.content.round === round) return last.file;
  const { store } = dependencies;
  const parent = await store.findIntent(region, round, prevInterval);
  const kept = parent && (await store.findEvidence(region, round, prevInterval, parent.dataHash));
  return kept ?? fetchEvidence(name, { region, round, interval: prevInterval }, dependencies);
}

import type { Barrier, IntervalOpening } from "../ledger/sealing.ts";
import type { PartitionProgress } from "../ledger/service-point-states.ts";
import { MAX_OPEN_BOUNDARIES } from "./partition-memory.ts";

/** What decides whether a region's next interval can be sealed, all of it from the ledger. */
export interface SealFacts {
  /** End of the last interval sealed or skipped; `undefined` before the region's first meter. */
  readonly sealedUntil: number | undefined;
  readonly progress: readonly PartitionProgress[];
  /** Of intervals after `sealedUntil`, by interval. */
  readonly openings: readonly IntervalOpening[];
  /** Of intervals after `sealedUntil`. */
  readonly barriers: readonly Barrier[];
  /** The aggregator's stored offset of each partition that has one. */
  readonly offsets: readonly { readonly partition: number; readonly nextOffset: bigint }[];
}

export interface SealRules {
  readonly intervalLengthS: number;
  /** How long a seal waits for those who have not reported past the interval's end. */
  readonly graceMs: number;
}

/** What is to be done about a region now. */
export type Readiness =
  /** Nothing, until a record comes. */
  | { readonly kind: "idle" }
  /** Look again at `untilMs`, unix ms, if nothing changes before. */
  | { readonly kind: "grace"; readonly untilMs: number }
  /** The grace is over: determine the barrier for `end`. */
  | { readonly kind: "barrier-missing"; readonly end: number; readonly deadlineMs: number }
  /** Partitions have to be flushed up to the barrier. */
  | { readonly kind: "barrier-ahead"; readonly end: number }
  /** Seal up to `end`. */
  | {
      readonly kind: "ready";
      readonly end: number;
      /** Barriers that paused partitions cannot reach, lowered to where they pause. */
      readonly lowered: readonly Barrier[];
    };

/**
 * Decides what is to be done about a region at `nowMs`: seal the next interval at once when every service point that
 * counts has reported at or after its end; otherwise after the grace, which runs from the later of the interval's
 * end and the append time of the region's first record beyond it, and once every partition has been consumed up to
 * the barrier. Where nobody has said anything for some intervals, `end` lies behind all of them. Where every service
 * point is retired no record beyond will come, and the grace runs from the interval's end.
 */
export function decideSeal(facts: SealFacts, rules: SealRules, nowMs: number): Readiness {
  const { sealedUntil, openings } = facts;
  if (sealedUntil === undefined) return { kind: "idle" };
  const next = sealedUntil + rules.intervalLengthS;
  if (isComplete(facts.progress, next, rules.intervalLengthS)) {
    return { kind: "ready", end: next, lowered: [] };
  }
  const earliest = openings[0]?.interval;
  if (earliest === undefined) return { kind: "idle" };
  const end = Math.max(next, earliest - rules.intervalLengthS);
  const beyond = openings.filter(({ interval }) => interval > end);
  if (beyond.length === 0 && !allRetired(facts.progress)) return { kind: "idle" };
  const firstBeyondMs = beyond.length > 0 ? Math.min(...beyond.map(({ firstAppendMs }) => firstAppendMs)) : 0;
  const deadlineMs = Math.max(end * 1000, firstBeyondMs) + rules.graceMs;
  if (nowMs < deadlineMs) return { kind: "grace", untilMs: deadlineMs };
  return afterGrace(facts, rules, end, deadlineMs);
}

function isComplete(progress: readonly PartitionProgress[], end: number, lengthS: number): boolean {
  let [counting, waiting] = [0, 0];
  for (const partition of progress) {
    if (partition.firstEnd === undefined) continue;
    const index = (end - partition.firstEnd) / lengthS;
    // Beyond what was told at the last flush, everybody who was there has been silent for too long to count.
    counting += partition.counting[index] ?? 0;
    waiting += partition.waiting[index] ?? 0;
  }
  return counting > 0 && waiting === 0;
}

function allRetired(progress: readonly PartitionProgress[]): boolean {
  return progress.length > 0 && progress.every(({ inService }) => inService === 0);
}

function afterGrace(facts: SealFacts, rules: SealRules, end: number, deadlineMs: number): Readiness {
  const barrier = facts.barriers.filter(({ interval }) => interval === end);
  if (barrier.length === 0) return { kind: "barrier-missing", end, deadlineMs };
  const stored = new Map(facts.offsets.map(({ partition, nextOffset }) => [partition, nextOffset]));
  const behind = barrier.filter(({ partition, nextOffset }) => (stored.get(partition) ?? 0n) < nextOffset);
  // A partition that pauses for this very seal would never come to the barrier.
  const pausesAfter = facts.sealedUntil! + MAX_OPEN_BOUNDARIES * rules.intervalLengthS;
  const pausing = new Set(
    facts.progress
      .filter(({ blockedEnd }) => blockedEnd !== undefined && blockedEnd > pausesAfter)
      .map(({ partition }) => partition),
  );
  if (behind.some(({ partition }) => !pausing.has(partition))) return { kind: "barrier-ahead", end };
  const lowered = behind.map(({ interval, partition }) => ({
    interval,
    partition,
    nextOffset: stored.get(partition) ?? 0n,
  }));
  return { kind: "ready", end, lowered };
}

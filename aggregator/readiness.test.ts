import assert from "node:assert/strict";
import { test } from "node:test";
import { decideSeal, type Readiness, type SealFacts } from "./readiness.ts";

const L = 900;
const S = 900_000;
const rules = { intervalLengthS: L, graceMs: 1_000 };
const nowMs = 1_000_000_000;

/** A partition with `waiting` of 5 service points awaited at every boundary. */
const partition = (partition: number, waiting: number, blockedEnd?: number) => ({
  partition,
  firstEnd: S + L,
  counting: [5, 5, 5, 5],
  waiting: [waiting, waiting, waiting, waiting],
  inService: 5,
  blockedEnd,
});
const opening = (interval: number, firstAppendMs: number) => ({ interval: S + interval * L, firstAppendMs });
const barrier = (interval: number, partition: number, nextOffset: bigint) => ({
  interval: S + interval * L,
  partition,
  nextOffset,
});
const offset = (partition: number, nextOffset: bigint) => ({ partition, nextOffset });

const none: SealFacts = { sealedUntil: S, progress: [], openings: [], barriers: [], offsets: [] };
const waiting = [partition(0, 1), partition(1, 0)];
const opened = [opening(1, nowMs - 9_000), opening(2, nowMs - 3_000)];
const pausing = [partition(0, 1, S + 5 * L), partition(1, 0)];

const retired = [0, 1].map((index) => ({ ...partition(index, 0), counting: [0, 0, 0, 0], inService: 0 }));

const cases: readonly [name: string, facts: Partial<SealFacts>, expected: Readiness][] = [
  ["before the first meter there is nothing to do", { sealedUntil: undefined }, { kind: "idle" }],
  ["nobody spoke", { progress: waiting }, { kind: "idle" }],
  [
    "everybody reported: no grace, no barrier",
    { progress: [partition(0, 0), partition(1, 0)] },
    { kind: "ready", end: S + L, lowered: [] },
  ],
  [
    "nobody counts: the grace decides",
    { progress: [{ ...partition(0, 0), counting: [0, 0, 0, 0] }], openings: opened },
    { kind: "barrier-missing", end: S + L, deadlineMs: nowMs - 2_000 },
  ],
  [
    "nobody spoke beyond the interval: its grace has not begun",
    { progress: waiting, openings: [opening(1, 0)] },
    { kind: "idle" },
  ],
  [
    "everybody is retired: the grace runs from the interval's end",
    { progress: retired, openings: [opening(1, nowMs)] },
    { kind: "barrier-missing", end: S + L, deadlineMs: (S + L) * 1000 + rules.graceMs },
  ],
  [
    "everybody is retired, but in one partition: somebody may speak beyond the interval",
    { progress: [...retired, partition(2, 1)], openings: [opening(1, 0)] },
    { kind: "idle" },
  ],
  ["everybody is retired and nothing is left", { progress: retired }, { kind: "idle" }],
  [
    "the grace runs from the first record beyond",
    { progress: waiting, openings: [opening(1, 0), opening(2, nowMs - 400)] },
    { kind: "grace", untilMs: nowMs + 600 },
  ],
  [
    "the earliest record beyond counts, whichever interval it is of",
    { progress: waiting, openings: [opening(1, 0), opening(2, nowMs - 200), opening(3, nowMs - 700)] },
    { kind: "grace", untilMs: nowMs + 300 },
  ],
  [
    "the grace is over: the barrier is determined",
    { progress: waiting, openings: opened },
    { kind: "barrier-missing", end: S + L, deadlineMs: nowMs - 2_000 },
  ],
  [
    "a partition is not stored up to the barrier",
    {
      progress: waiting,
      openings: opened,
      barriers: [barrier(1, 0, 7n), barrier(1, 1, 3n)],
      offsets: [offset(0, 6n), offset(1, 3n)],
    },
    { kind: "barrier-ahead", end: S + L },
  ],
  [
    "a partition that has never been stored stands at 0",
    { progress: waiting, openings: opened, barriers: [barrier(1, 0, 0n), barrier(1, 1, 1n)] },
    { kind: "barrier-ahead", end: S + L },
  ],
  [
    "all partitions are at the barrier",
    {
      progress: waiting,
      openings: opened,
      barriers: [barrier(1, 0, 7n), barrier(1, 1, 3n)],
      offsets: [offset(0, 7n), offset(1, 4n)],
    },
    { kind: "ready", end: S + L, lowered: [] },
  ],
  [
    "a partition that pauses for this seal lowers its barrier",
    {
      progress: pausing,
      openings: opened,
      barriers: [barrier(1, 0, 7n), barrier(1, 1, 3n)],
      offsets: [offset(0, 5n), offset(1, 3n)],
    },
    { kind: "ready", end: S + L, lowered: [barrier(1, 0, 5n)] },
  ],
  [
    "a pause that an earlier seal has ended lowers nothing",
    {
      progress: [partition(0, 1, S + 4 * L)],
      openings: opened,
      barriers: [barrier(1, 0, 7n)],
      offsets: [offset(0, 5n)],
    },
    { kind: "barrier-ahead", end: S + L },
  ],
  [
    "a silence of intervals is passed over at once",
    {
      progress: waiting,
      openings: [opening(9, nowMs - 5_000)],
      barriers: [barrier(8, 0, 2n)],
      offsets: [offset(0, 2n)],
    },
    { kind: "ready", end: S + 8 * L, lowered: [] },
  ],
];

for (const [name, facts, expected] of cases) {
  test(name, () => assert.deepEqual(decideSeal({ ...none, ...facts }, rules, nowMs), expected));
}

test("the grace of an interval does not begin before its end", () => {
  const facts = { ...none, progress: waiting, openings: [opening(1, 0), opening(2, 0)] };
  assert.deepEqual(decideSeal(facts, rules, S * 1000), { kind: "grace", untilMs: (S + L) * 1000 + 1_000 });
});

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { clustersOf } from "./mark-clusters.ts";
import type { TakenMark } from "./marks.ts";

const SEED = 20_261_121;
const DAY_S = 86_400;

function mark(meter: number, end: number): TakenMark {
  return { meter, meterId: `m${meter}`, epoch: 0, end, region: "r", retaken: false };
}

function sorted(marks: readonly TakenMark[]): TakenMark[] {
  return marks.toSorted((a, b) => a.end - b.end || a.meter - b.meter);
}

/** Buckets that a cluster's query reads. */
function cells(cluster: ReturnType<typeof clustersOf>[number]): number {
  return cluster.meterIds.length * ((cluster.lastEnd - cluster.firstEnd) / 900 + 1);
}

test("all meters in one bucket are a query for each thousand of them", () => {
  const marks = Array.from({ length: 2_500 }, (_, i) => mark(i, DAY_S));
  assert.deepEqual(
    clustersOf(marks, 900).map(({ meterIds }) => meterIds.length),
    [1_000, 1_000, 500],
  );
});

test("a month of one meter is one query", () => {
  const marks = Array.from({ length: 30 * 96 }, (_, i) => mark(7, (i + 1) * 900));
  assert.equal(clustersOf(marks, 900).length, 1);
});

test("a late device does not widen the query of everybody else", () => {
  const late = Array.from({ length: 100 }, (_, i) => mark(7, (i + 1) * 900));
  const live = Array.from({ length: 500 }, (_, i) => mark(i, 60 * DAY_S));
  const clusters = clustersOf(sorted([...late, ...live]), 900);
  assert.deepEqual(
    clusters.map(({ marks }) => marks.length),
    [100, 500],
  );
});

test("clusters hold every mark once, in its query's meters and time, and read a bounded number of others", () => {
  const marks = fc.array(
    fc.record({ meter: fc.integer({ min: 0, max: 300 }), k: fc.integer({ min: 1, max: 3_000 }) }),
    { maxLength: 300, size: "max" },
  );
  fc.assert(
    fc.property(marks, (drawn) => {
      const all = sorted(drawn.map(({ meter, k }) => mark(meter, k * 900)));
      const clusters = clustersOf(all, 900);
      assert.deepEqual(
        clusters.flatMap((cluster) => cluster.marks),
        all,
      );
      for (const cluster of clusters) {
        assert.ok(cells(cluster) <= 4 * cluster.marks.length + 256);
        for (const { meterId, end } of cluster.marks) {
          assert.ok(cluster.meterIds.includes(meterId));
          assert.ok(end >= cluster.firstEnd && end <= cluster.lastEnd);
        }
      }
    }),
    { seed: SEED, numRuns: 200 },
  );
});

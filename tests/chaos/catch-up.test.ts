import assert from "node:assert/strict";
import { test } from "node:test";
import { catchUpRatio } from "./catch-up.ts";
import type { Sample } from "./monitor.ts";

function sample(atS: number, recorded: number, unrecorded: number): Sample {
  return { atMs: atS * 1000, recorded, unrecorded, unsealed: 0, unsettled: 0 };
}

test("the ratio is what was recorded a second until the backlog was gone, over the load", () => {
  const samples = [
    sample(0, 100, 0),
    sample(10, 100, 4000),
    // 400 a second come in and 1,400 are recorded.
    sample(11, 1500, 3000),
    sample(12, 2900, 2000),
    sample(14, 5700, 0),
    sample(20, 8100, 0),
  ];
  assert.equal(catchUpRatio(samples, 10_000, 400), 3.5);
});

test("no backlog, one that is never worked off, and no sample since have no ratio", () => {
  assert.equal(catchUpRatio([sample(10, 0, 0), sample(11, 400, 0)], 10_000, 400), undefined);
  assert.equal(catchUpRatio([sample(10, 0, 9000), sample(11, 400, 9000)], 10_000, 400), undefined);
  assert.equal(catchUpRatio([sample(9, 0, 9000)], 10_000, 400), undefined);
});

import assert from "node:assert/strict";
import { test } from "node:test";
import type { NewRecord } from "../event-log.ts";
import { produceRequests } from "./produce-requests.ts";

const LIMITS = { compressFromBytes: 200, batchBytes: 1_000, batchRecords: 5, requestBytes: 3_000 };

function record(partition: number, key: string, bytes: number, topic = "t"): NewRecord {
  return { topic, partition, key, headers: {}, value: new Uint8Array(bytes) };
}

/** Keys of each request, in order. */
function split(records: readonly NewRecord[]): string[] {
  return produceRequests(records, LIMITS).map(({ byTopic }) =>
    [...byTopic.values()]
      .flat()
      .map(({ key }) => key)
      .join(""),
  );
}

for (const [name, records, expected] of [
  ["nothing makes no request", [], []],
  ["what fits goes at once", [record(0, "a", 10), record(1, "b", 10), record(0, "c", 10)], ["abc"]],
  ["a partition's bytes are limited", [record(0, "a", 600), record(0, "b", 600)], ["a", "b"]],
  ["partitions have their limits each", [record(0, "a", 600), record(1, "b", 600)], ["ab"]],
  [
    "topics have their limits each",
    [record(0, "a", 600), record(0, "b", 600, "u"), record(0, "c", 600)],
    ["ab", "c"],
  ],
  ["a partition's records are limited", "abcdefg".split("").map((key) => record(0, key, 1)), ["abcde", "fg"]],
  [
    "the bytes of a request are limited",
    [0, 1, 2, 3, 4].map((partition) => record(partition, `${partition}`, 900)),
    ["012", "34"],
  ],
  [
    "a record above the limits goes alone",
    [record(0, "a", 1), record(0, "b", 9_000), record(0, "c", 1)],
    ["a", "b", "c"],
  ],
] as const) {
  test(`an append is split into requests: ${name}`, () => {
    assert.deepEqual(split(records), expected);
  });
}

test("texts count as what they take at most", () => {
  const headers = { kind: "⚡".repeat(300) };
  const records = [1, 2].map((n) => ({ ...record(0, `${n}`, 0), headers }));
  assert.deepEqual(split(records), ["1", "2"]);
});

test("a request is compressed when its batches are large enough on average", () => {
  for (const [bytes, expected] of [
    [[60, 60], false],
    [[60, 400], true],
    [[400], true],
  ] as const) {
    const records = bytes.map((size, partition) => record(partition, "k", size));
    assert.deepEqual(
      produceRequests(records, LIMITS).map(({ compressed }) => compressed),
      [expected],
    );
  }
});

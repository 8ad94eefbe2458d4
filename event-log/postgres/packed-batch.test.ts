import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { NewRecord } from "../event-log.ts";
import { packBatches, unpackBatch } from "./packed-batch.ts";

const SEED = 20_261_121;

const records = fc.array(
  fc.record({
    topic: fc.constant("t"),
    partition: fc.constant(0),
    key: fc.string({ unit: "grapheme", maxLength: 60 }),
    headers: fc.dictionary(
      fc.string({ unit: "grapheme", maxLength: 8 }),
      fc.string({ unit: "grapheme", maxLength: 200 }),
      {
        maxKeys: 6,
        noNullPrototype: true,
      },
    ),
    value: fc.uint8Array({ maxLength: 300 }),
  }),
  { minLength: 1, maxLength: 40 },
);

function unpackAll(batches: readonly { recordCount: number; bytes: Buffer }[], from: bigint) {
  let baseOffset = 0n;
  return batches.flatMap(({ recordCount, bytes }) => {
    const stored = { baseOffset, recordCount, appendTimeMs: 1, bytes };
    baseOffset += BigInt(recordCount);
    return baseOffset > from ? unpackBatch(stored, from) : [];
  });
}

function plain({ key, headers, value }: Pick<NewRecord, "key" | "headers" | "value">) {
  return { key, headers: Object.entries(headers), value: [...value] };
}

test("unpacking gives back what was packed, from any offset on, however it was split", () => {
  fc.assert(
    fc.property(
      records,
      fc.nat(40),
      fc.integer({ min: 1, max: 10 }),
      fc.integer({ min: 1, max: 3000 }),
      (all, from, maxRecords, maxBytes) => {
        const batches = packBatches(all, maxRecords, maxBytes);
        assert.ok(batches.every(({ recordCount }) => recordCount <= maxRecords));
        const read = unpackAll(batches, BigInt(from));
        assert.deepEqual(read.map(plain), all.slice(from).map(plain));
        assert.deepEqual(
          read.map(({ offset }) => offset),
          all.map((_, n) => BigInt(n)).slice(from),
        );
      },
    ),
    { seed: SEED },
  );
});

test("a batch with any byte changed is refused", () => {
  const batch = packBatches(
    [{ topic: "t", partition: 0, key: "m-1", headers: { kind: "rd" }, value: Buffer.from("{}") }],
    10,
    1000,
  )[0]!;
  for (let at = 0; at < batch.bytes.length; at += 1) {
    const bytes = Buffer.from(batch.bytes);
    bytes[at]! ^= 0x10;
    assert.throws(() => unpackBatch({ baseOffset: 0n, recordCount: 1, appendTimeMs: 0, bytes }, 0n), {
      code: "log-corrupt",
    });
  }
  const short = batch.bytes.subarray(0, 3);
  assert.throws(() => unpackBatch({ baseOffset: 0n, recordCount: 1, appendTimeMs: 0, bytes: short }, 0n), {
    code: "log-corrupt",
  });
});

test("a batch that holds another number of records than its row says is refused", () => {
  const record = { topic: "t", partition: 0, key: "m-1", headers: {}, value: Buffer.from("{}") };
  const { bytes } = packBatches([record, record], 10, 1000)[0]!;
  for (const recordCount of [1, 3]) {
    assert.throws(() => unpackBatch({ baseOffset: 0n, recordCount, appendTimeMs: 0, bytes }, 0n), {
      code: "log-corrupt",
    });
  }
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { ByteReader, ByteWriter } from "./bytes.ts";

test("a field that makes the buffer grow is written whole, wherever it falls", () => {
  for (let before = 4080; before <= 4100; before += 1) {
    const out = new ByteWriter();
    for (let i = 0; i < before; i += 1) out.u8(i % 256);
    out.u64(2n ** 64n - 2n);
    out.u32(7);
    out.name("sp-1");
    const input = new ByteReader(out.bytes());
    for (let i = 0; i < before; i += 1) assert.equal(input.u8(), i % 256);
    assert.deepEqual([input.u64(), input.u32(), input.name()], [2n ** 64n - 2n, 7, "sp-1"]);
    input.end();
  }
});

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import mqtt, { type Packet } from "mqtt-packet";
import { ByteQueue } from "./byte-queue.ts";
import { isPublishWhole, packetBytes, remainingBytes } from "./packet-format.ts";

const SEED = 20261121;

test("the length of any packet is known from its fixed header alone", () => {
  const property = fc.property(
    fc.integer({ min: 0, max: 300_000 }),
    fc.constantFrom(0, 1, 2),
    (size, qos) => {
      const packet: Packet = {
        cmd: "publish",
        topic: "t",
        payload: Buffer.alloc(size),
        qos,
        dup: false,
        retain: false,
        messageId: 1,
      };
      const bytes = mqtt.generate(packet);
      assert.equal(packetBytes(bytes.subarray(0, 5), 0), bytes.length);
      assert.equal(isPublishWhole(bytes, 0, bytes.length), true);
      assert.equal(remainingBytes(bytes, 0, bytes.length), size + 3 + (qos > 0 ? 2 : 0));
    },
  );
  fc.assert(property, { seed: SEED, numRuns: 200 });
});

test("an unfinished length is unknown, one of more than four bytes is malformed", () => {
  assert.equal(packetBytes(Buffer.from([0x30]), 0), 0);
  assert.equal(packetBytes(Buffer.from([0x30, 0x80, 0x80]), 0), 0);
  assert.equal(packetBytes(Buffer.from([0x30, 0x80, 0x80, 0x80, 0x01]), 0), 5 + 2 ** 21);
  assert.equal(packetBytes(Buffer.from([0x30, 0x80, 0x80, 0x80, 0x80]), 0), -1);
});

test("a PUBLISH whose topic or identifier leaves the packet is not whole", () => {
  assert.equal(isPublishWhole(Buffer.from([0x30, 3, 0, 1, 0x61]), 0, 5), true);
  assert.equal(isPublishWhole(Buffer.from([0x30, 3, 0, 2, 0x61, 0x61]), 0, 5), false);
  assert.equal(isPublishWhole(Buffer.from([0x32, 3, 0, 1, 0x61, 0, 1]), 0, 5), false);
  assert.equal(isPublishWhole(Buffer.from([0x30, 0, 0, 0]), 0, 2), false);
});

test("a byte queue gives back what was put in, however it is cut", () => {
  const property = fc.property(
    fc.array(fc.uint8Array({ minLength: 1, maxLength: 20 }), { maxLength: 40 }),
    fc.array(fc.integer({ min: 0, max: 30 }), { maxLength: 40 }),
    (chunks, takes) => {
      const queue = new ByteQueue();
      const taken: Buffer[] = [];
      for (const [index, chunk] of chunks.entries()) {
        queue.append(Buffer.from(chunk));
        taken.push(queue.take(Math.min(takes[index] ?? 0, queue.length)));
      }
      taken.push(queue.take(queue.length));
      assert.deepEqual(Buffer.concat(taken), Buffer.concat(chunks));
      assert.equal(queue.length, 0);
    },
  );
  fc.assert(property, { seed: SEED, numRuns: 300 });
});

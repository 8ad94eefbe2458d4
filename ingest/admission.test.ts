import assert from "node:assert/strict";
import { test } from "node:test";
import { DEFAULT_CLOCK_LIMITS } from "../domain/metering/codec.ts";
import { wh } from "../domain/metering/units.ts";
import { partitionOf } from "../event-log/event-log.ts";
import type { Meter } from "../ledger/meters.ts";
import { admit } from "./admission.ts";
import { NOW_S, rdTopic, reading } from "./tests/ingest-under-test.ts";

const meter: Meter = {
  meterId: "m1",
  regionId: 1,
  region: "bangkok",
  utility: "mea",
  servicePoint: "sp-1",
  account: "0x1111111111111111111111111111111111111111",
  modulusWh: wh(1_000_000_000n),
  maxPowerW: 10_000,
  secretSha256: Buffer.alloc(32),
  epoch: 0,
  commissionedAt: 0,
  retiredAt: undefined,
  flagged: undefined,
};
const options = { partitionsPerRegion: 64, clockLimits: DEFAULT_CLOCK_LIMITS };

function admission(topic: string, payload: string | Buffer) {
  return admit(
    { topic, payload: Buffer.from(payload), qos: 1, receivedMs: NOW_S * 1000 + 999 },
    meter,
    options,
  );
}

test("an accepted publish goes to the region's topic, in the partition of the service point", () => {
  const { record, deadLetterReason } = admission(rdTopic("m1"), reading(1));
  assert.equal(deadLetterReason, undefined);
  assert.equal(record.topic, "readings.bangkok");
  assert.equal(record.partition, partitionOf("sp-1", 64));
  assert.equal(record.key, "m1");
});

const ARRAY_256 = `[${Array.from({ length: 256 }, (_, index) => reading(index)).join(",")}]`;
const ARRAY_257 = `[${Array.from({ length: 257 }, (_, index) => reading(index)).join(",")}]`;
const BEYOND = String(2n ** 53n);

const ROWS: readonly [what: string, topic: string, payload: string | Buffer, reason: string | undefined][] = [
  ["one reading", rdTopic("m1"), reading(1), undefined],
  ["256 readings", rdTopic("m1"), ARRAY_256, undefined],
  ["257 readings", rdTopic("m1"), ARRAY_257, "too-many-readings"],
  ["malformed JSON", rdTopic("m1"), '{"seq":1,', "malformed-json"],
  ["an empty payload", rdTopic("m1"), "", "malformed-json"],
  ["bytes that are not UTF-8", rdTopic("m1"), Buffer.from([0xff, 0xfe]), "not-utf8"],
  ["a wrong type", rdTopic("m1"), reading(1, { importWh: "1001" }), "wrong-type"],
  ["a fraction", rdTopic("m1"), reading(1, { importWh: 1.5 }), "not-an-integer"],
  ["a negative register", rdTopic("m1"), reading(1, { exportWh: -1 }), "out-of-range"],
  [
    "a number beyond 2^53",
    rdTopic("m1"),
    reading(1).replace('"importWh":1001', `"importWh":${BEYOND}`),
    "out-of-range",
  ],
  ["a missing field", rdTopic("m1"), reading(1, { t: undefined }), "missing-field"],
  ["a clock 60 s ahead", rdTopic("m1"), reading(1, { t: NOW_S + 60 }), undefined],
  ["a clock 61 s ahead", rdTopic("m1"), reading(1, { t: NOW_S + 61 }), "clock-ahead"],
  ["a reading 30 days old", rdTopic("m1"), reading(1, { t: NOW_S + 1 - 30 * 86_400 }), undefined],
  ["a reading older than 30 days", rdTopic("m1"), reading(1, { t: NOW_S - 30 * 86_400 }), "clock-behind"],
  [
    "one bad clock in an array",
    rdTopic("m1"),
    `[${reading(1)},${reading(2, { t: NOW_S + 99 })}]`,
    "clock-ahead",
  ],
  ["another meter's topic", rdTopic("m2"), reading(1), "foreign-topic"],
  ["another utility", "mt/v1/pea/bangkok/m1/rd", reading(1), "foreign-topic"],
  ["another region", "mt/v1/mea/central/m1/rd", reading(1), "foreign-topic"],
  ["a topic below its own", "mt/v1/mea/bangkok/m1/rd/x", reading(1), "unknown-topic"],
  ["its command topic", "mt/v1/mea/bangkok/m1/cmd", reading(1), "unknown-topic"],
  ["a system topic", "$SYS/broker/new/clients", reading(1), "unknown-topic"],
  ["a load profile", "mt/v1/mea/bangkok/m1/lp", "{}", "unsupported-kind"],
  ["an event", "mt/v1/mea/bangkok/m1/ev", '{"code":1}', undefined],
  ["an event that is an array", "mt/v1/mea/bangkok/m1/ev", "[]", "not-an-object"],
  ["an event that is null", "mt/v1/mea/bangkok/m1/ev", "null", "not-an-object"],
  ["a birth certificate", "mt/v1/mea/bangkok/m1/birth", '{"firmware":"1"}', undefined],
  ["a birth certificate that is no JSON", "mt/v1/mea/bangkok/m1/birth", "firmware", "not-an-object"],
];

for (const [what, topic, payload, reason] of ROWS) {
  test(`${what} is ${reason === undefined ? "admitted" : `a dead letter: ${reason}`}`, () => {
    const { record, deadLetterReason } = admission(topic, payload);
    assert.equal(deadLetterReason, reason);
    assert.deepEqual(Buffer.from(record.value), Buffer.from(payload));
    assert.equal(record.headers["mqtt-topic"], topic);
    if (reason === undefined) return;
    assert.equal(record.topic, "dead-letters");
    assert.equal(record.headers["client"], "m1");
    assert.equal(record.headers["reason"], reason);
    assert.ok(record.headers["detail"]);
  });
}

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { checkClock, decodeReadings, encodeReadings, MAX_READINGS_PER_PAYLOAD, MAX_SEQ } from "./codec.ts";
import type { Reading } from "./reading.ts";
import { wh } from "./units.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const valid = '{"seq":1,"t":1795000000,"importWh":5,"exportWh":7}';
const withField = (field: string) => valid.replace("}", `,${field}}`);

test("a reading is read with its defaults, and fields it does not know are kept", () => {
  const decoded = decodeReadings("m1", bytes(withField('"powerW":-812,"phase":{"l1":1.5},"tag":"a,]}\\""')));
  assert.deepEqual(decoded, {
    ok: true,
    readings: [
      {
        meterId: "m1",
        epoch: 0,
        seq: 1,
        t: 1795000000,
        importWh: 5n,
        exportWh: 7n,
        powerW: -812,
        status: 0,
        unknown: { phase: { l1: 1.5 }, tag: 'a,]}"' },
      },
    ],
  });
});

const refused: readonly [name: string, payload: string | Uint8Array, reason: string][] = [
  ["bytes that are no UTF-8", new Uint8Array([0x7b, 0xff, 0x7d]), "not-utf8"],
  ["nothing", "", "malformed-json"],
  ["a cut object", valid.slice(0, -1), "malformed-json"],
  ["text after the object", `${valid} x`, "malformed-json"],
  ["a second object", valid + valid, "malformed-json"],
  ["a trailing comma", valid.replace("}", ",}"), "malformed-json"],
  ["a byte order mark", `\uFEFF${valid}`, "malformed-json"],
  ["a string", '"reading"', "wrong-shape"],
  ["null", "null", "wrong-shape"],
  ["an empty array", "[]", "wrong-shape"],
  ["an array that holds a number", `[${valid},1]`, "wrong-shape"],
  ["an object without seq", valid.replace('"seq":1,', ""), "missing-field"],
  ["a name twice", withField('"seq":2'), "duplicate-field"],
  ["a name twice, once escaped", withField('"s\\u0065q":2'), "duplicate-field"],
  ["an unknown name twice", withField('"x":1,"x":1'), "duplicate-field"],
  ["a number in quotes", valid.replace('"t":1795000000', '"t":"1795000000"'), "wrong-type"],
  ["null for a number", withField('"powerW":null'), "wrong-type"],
  ["a fraction", valid.replace('"exportWh":7', '"exportWh":7.5'), "not-an-integer"],
  ["an integer written as a fraction", valid.replace('"exportWh":7', '"exportWh":7.0'), "not-an-integer"],
  ["an exponent", valid.replace('"exportWh":7', '"exportWh":7e0'), "not-an-integer"],
  ["minus zero", valid.replace('"exportWh":7', '"exportWh":-0'), "not-an-integer"],
  ["NaN", valid.replace('"exportWh":7', '"exportWh":NaN'), "malformed-json"],
  ["a leading zero", valid.replace('"exportWh":7', '"exportWh":07'), "malformed-json"],
  ["a negative register", valid.replace('"exportWh":7', '"exportWh":-7'), "out-of-range"],
  ["2^53", valid.replace('"exportWh":7', '"exportWh":9007199254740992'), "out-of-range"],
  ["a huge number", valid.replace('"exportWh":7', `"exportWh":${"9".repeat(400)}`), "out-of-range"],
  [
    "the seq that stands for a registry record",
    valid.replace('"seq":1', '"seq":9007199254740991'),
    "out-of-range",
  ],
  ["a negative epoch", withField('"epoch":-1'), "out-of-range"],
  ["257 readings", `[${Array.from({ length: 257 }, () => valid).join()}]`, "too-many-readings"],
  ["a field nested too deep", withField(`"x":${"[".repeat(17)}${"]".repeat(17)}`), "wrong-shape"],
];

for (const [name, payload, reason] of refused) {
  test(`${name} is refused as ${reason}`, () => {
    const decoded = decodeReadings("m1", typeof payload === "string" ? bytes(payload) : payload);
    assert.equal(decoded.ok ? "accepted" : decoded.reason, reason);
  });
}

test("the detail names the index and the field, never what was sent", () => {
  const decoded = decodeReadings(
    "m1",
    bytes(`[${valid},${valid.replace('"exportWh":7', '"exportWh":-712')}]`),
  );
  assert.ok(!decoded.ok);
  assert.match(decoded.detail, /reading 1: exportWh/);
  assert.doesNotMatch(decoded.detail, /712/);
});

test("the largest register and 256 readings are read", () => {
  const largest = valid.replace('"exportWh":7', '"exportWh":9007199254740991');
  const decoded = decodeReadings("m1", bytes(`[${Array.from({ length: 256 }, () => largest).join(" ,\n")}]`));
  assert.ok(decoded.ok);
  assert.equal(decoded.readings.length, MAX_READINGS_PER_PAYLOAD);
  assert.equal(decoded.readings[255]?.exportWh, 9007199254740991n);
});

const register = fc.maxSafeNat().map((value) => wh(value));
const reading: fc.Arbitrary<Reading> = fc.record(
  {
    meterId: fc.constant("m1"),
    epoch: fc.integer({ min: 0, max: 2 ** 31 - 1 }),
    seq: fc.maxSafeNat().map((seq) => Math.min(seq, MAX_SEQ)),
    t: fc.integer({ min: 1, max: 2 ** 32 }),
    importWh: register,
    exportWh: register,
    powerW: fc.integer({ min: -100_000, max: 100_000 }),
    status: fc.nat(63),
  },
  { requiredKeys: ["meterId", "epoch", "seq", "t", "importWh", "exportWh", "status"], noNullPrototype: true },
);

test("what is encoded is decoded to the same readings", () => {
  fc.assert(
    fc.property(fc.array(reading, { minLength: 1, maxLength: 8 }), (readings) => {
      assert.deepEqual(decodeReadings("m1", encodeReadings(readings)), { ok: true, readings });
    }),
    { seed: 11 },
  );
});

test("what is read as integers, JSON.parse reads as the same numbers", () => {
  fc.assert(
    fc.property(fc.json(), (json) => {
      const decoded = decodeReadings("m1", bytes(json));
      if (decoded.ok) JSON.parse(json);
      else if (decoded.reason === "malformed-json") assert.throws(() => JSON.parse(json));
    }),
    { seed: 12, numRuns: 500 },
  );
});

test("a clock may be 60 s ahead and 30 days behind", () => {
  const nowS = 1_795_000_000;
  assert.equal(checkClock({ t: nowS + 60 }, nowS), undefined);
  assert.equal(checkClock({ t: nowS + 61 }, nowS), "clock-ahead");
  assert.equal(checkClock({ t: nowS - 30 * 86_400 }, nowS), undefined);
  assert.equal(checkClock({ t: nowS - 30 * 86_400 - 1 }, nowS), "clock-behind");
});

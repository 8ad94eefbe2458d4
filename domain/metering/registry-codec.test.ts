import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeRegistryRecord, encodeRegistryRecord } from "./registry-codec.ts";
import type { RegistryRecord } from "./registry-records.ts";
import { wh } from "./units.ts";

const registers = { importWh: wh(12), exportWh: wh(34) };
const device = {
  meterId: "m1",
  initial: registers,
  modulusWh: wh(1_000_000),
  maxPowerW: 11_000,
  secretSha256: "ab".repeat(32),
};
const common = { id: "record-1", servicePoint: "sp1", at: 1_795_000_000 };
const commission: RegistryRecord = {
  type: "commission",
  ...common,
  utility: "MEA",
  region: "bangkok",
  account: `0x${"0f".repeat(20)}`,
  device,
};
const records: readonly RegistryRecord[] = [
  commission,
  { type: "swap", ...common, meterId: "m0", final: registers, device },
  { type: "reset", ...common, meterId: "m1", epoch: 3, final: registers, initial: registers },
  { type: "retire", ...common, meterId: "m1", final: registers },
];

for (const record of records) {
  test(`a ${record.type} record is read back as it was written`, () => {
    assert.deepEqual(decodeRegistryRecord(encodeRegistryRecord(record)), { ok: true, record });
  });
}

const refused: readonly [name: string, change: object][] = [
  ["an unknown type", { type: "move" }],
  ["a missing account", { account: undefined }],
  ["an account with capitals", { account: `0x${"0F".repeat(20)}` }],
  ["a name with a slash", { servicePoint: "a/b" }],
  ["an unknown field", { note: "x" }],
  ["a fraction of a second", { at: 1.5 }],
  ["energy as a number", { device: { ...device, modulusWh: 1_000_000 } }],
  ["negative energy", { device: { ...device, initial: { importWh: "-1", exportWh: "0" } } }],
  [
    "a register that starts at the modulus",
    { device: { ...device, initial: { importWh: "1000000", exportWh: "0" } } },
  ],
  ["a short secret hash", { device: { ...device, secretSha256: "ab" } }],
  ["no device", { device: null }],
];

for (const [name, change] of refused) {
  test(`a registry record with ${name} is refused`, () => {
    const record = encodeRegistryRecord({ ...commission, ...change });
    assert.equal(decodeRegistryRecord(record).ok, false);
  });
}

test("bytes that are no JSON are refused", () => {
  assert.equal(decodeRegistryRecord(new TextEncoder().encode("{")).ok, false);
  assert.equal(decodeRegistryRecord(new Uint8Array([0xff])).ok, false);
  assert.equal(decodeRegistryRecord(new TextEncoder().encode("[]")).ok, false);
});

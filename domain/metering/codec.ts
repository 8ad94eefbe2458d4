import { type IntegerField, parseStrictObjects, PayloadError, type PayloadFault } from "./json-readings.ts";
import type { Reading } from "./reading.ts";
import { wh } from "./units.ts";

export type { PayloadFault } from "./json-readings.ts";
export { PAYLOAD_FAULTS } from "./json-readings.ts";

/** The most readings in one payload. */
export const MAX_READINGS_PER_PAYLOAD = 256;

/** What became of a payload. `detail` names the reading's index and field, never a value. */
export type DecodedReadings =
  | { readonly ok: true; readonly readings: readonly Reading[] }
  | { readonly ok: false; readonly reason: PayloadFault; readonly detail: string };

/** The largest `seq` of a reading: the one above it stands for a registry record, see `RECORD_SEQ`. */
export const MAX_SEQ = Number.MAX_SAFE_INTEGER - 1;

const INT32_MAX = 2 ** 31 - 1;

/** The integer fields of a reading. Instants end with the year 9999; the measurements fit 32 bits. */
const FIELDS: ReadonlyMap<string, IntegerField> = new Map([
  ["epoch", { min: 0, max: INT32_MAX }],
  ["seq", { min: 0, max: MAX_SEQ }],
  ["t", { min: 1, max: 253_402_300_799 }],
  ["importWh", { min: 0, max: Number.MAX_SAFE_INTEGER }],
  ["exportWh", { min: 0, max: Number.MAX_SAFE_INTEGER }],
  ["powerW", { min: -INT32_MAX, max: INT32_MAX }],
  ["voltageDv", { min: 0, max: INT32_MAX }],
  ["frequencyMhz", { min: 0, max: INT32_MAX }],
  ["status", { min: 0, max: INT32_MAX }],
]);

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * Reads the payload of an `rd` publish: one JSON object or an array of 1 to 256, see docs/meter-protocol.md. It is
 * read whole or refused whole. Fields it does not know are kept in `unknown`; `epoch` and `status` default to 0.
 */
export function decodeReadings(meterId: string, payload: Uint8Array): DecodedReadings {
  let text: string;
  try {
    text = utf8.decode(payload);
  } catch {
    return { ok: false, reason: "not-utf8", detail: "not UTF-8" };
  }
  try {
    const objects = parseStrictObjects(text, FIELDS, MAX_READINGS_PER_PAYLOAD);
    const readings = objects.map(({ integers, unknown }, index) =>
      toReading(meterId, index, integers, unknown),
    );
    return { ok: true, readings };
  } catch (error) {
    if (error instanceof PayloadError) return { ok: false, reason: error.reason, detail: error.message };
    throw error;
  }
}

function toReading(
  meterId: string,
  index: number,
  integers: ReadonlyMap<string, number>,
  unknown: ReadonlyMap<string, unknown>,
): Reading {
  const required = (name: string): number => {
    const value = integers.get(name);
    if (value === undefined) throw new PayloadError("missing-field", `reading ${index}: ${name} is missing`);
    return value;
  };
  const powerW = integers.get("powerW");
  const voltageDv = integers.get("voltageDv");
  const frequencyMhz = integers.get("frequencyMhz");
  return {
    meterId,
    epoch: integers.get("epoch") ?? 0,
    seq: required("seq"),
    t: required("t"),
    importWh: wh(required("importWh")),
    exportWh: wh(required("exportWh")),
    ...(powerW === undefined ? {} : { powerW }),
    ...(voltageDv === undefined ? {} : { voltageDv }),
    ...(frequencyMhz === undefined ? {} : { frequencyMhz }),
    status: integers.get("status") ?? 0,
    ...(unknown.size === 0 ? {} : { unknown: Object.fromEntries(unknown) }),
  };
}

/**
 * The payload of an `rd` publish that `decodeReadings` reads back: an object for one reading, an array for several.
 * The meter id is not in it: it is the topic's. Throws `RangeError` on none or more than 256.
 */
export function encodeReadings(readings: readonly Reading[]): Uint8Array {
  if (readings.length === 0 || readings.length > MAX_READINGS_PER_PAYLOAD) {
    throw new RangeError(`a payload holds 1 to ${MAX_READINGS_PER_PAYLOAD} readings`);
  }
  const objects = readings.map(({ unknown, ...reading }) => ({
    ...unknown,
    ...reading,
    meterId: undefined,
    importWh: Number(reading.importWh),
    exportWh: Number(reading.exportWh),
  }));
  return new TextEncoder().encode(JSON.stringify(objects.length === 1 ? objects[0] : objects));
}

/** How far a reading's clock may be off, seconds. */
export interface ClockLimits {
  readonly maxAheadS: number;
  readonly maxBehindS: number;
}

/** One minute ahead, 30 days back. */
export const DEFAULT_CLOCK_LIMITS: ClockLimits = { maxAheadS: 60, maxBehindS: 30 * 86_400 };

export type ClockFault = "clock-ahead" | "clock-behind";

/**
 * Whether a reading's `t` is acceptable at `nowS`, unix seconds; `undefined` where it is. Only ingest asks, so that
 * a replay of the log sees the same readings whenever it happens.
 */
export function checkClock(
  reading: Pick<Reading, "t">,
  nowS: number,
  limits: ClockLimits = DEFAULT_CLOCK_LIMITS,
): ClockFault | undefined {
  if (reading.t > nowS + limits.maxAheadS) return "clock-ahead";
  if (reading.t < nowS - limits.maxBehindS) return "clock-behind";
  return undefined;
}

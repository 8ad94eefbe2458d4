import type {
  CommissionRecord,
  Device,
  Registers,
  RegistryRecord,
  ResetRecord,
  RetireRecord,
  SwapRecord,
} from "./registry-records.ts";
import { isName } from "./topics.ts";
import { type Wh, wh } from "./units.ts";

/** What became of a registry record's bytes. `detail` names the field. */
export type DecodedRegistryRecord =
  { readonly ok: true; readonly record: RegistryRecord } | { readonly ok: false; readonly detail: string };

type Fields = Readonly<Record<string, unknown>>;

class FieldError extends Error {}

/** The bytes of a registry record in the log: JSON with energy as decimal strings. */
export function encodeRegistryRecord(record: RegistryRecord): Uint8Array {
  const text = JSON.stringify(record, (_, value: unknown) =>
    typeof value === "bigint" ? value.toString() : value,
  );
  return new TextEncoder().encode(text);
}

/**
 * Reads what `encodeRegistryRecord` wrote. Every field must be there, in range and known: such records move money,
 * so that a misspelt field must not be passed over.
 */
export function decodeRegistryRecord(bytes: Uint8Array): DecodedRegistryRecord {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    return { ok: true, record: toRecord(object(JSON.parse(text), "record")) };
  } catch (error) {
    if (error instanceof FieldError) return { ok: false, detail: error.message };
    if (error instanceof SyntaxError || error instanceof TypeError) return { ok: false, detail: "not JSON" };
    throw error;
  }
}

const COMMON = ["type", "id", "servicePoint", "at"];

function toRecord(fields: Fields): RegistryRecord {
  const common = {
    id: matching(fields, "id", /^[\x21-\x7e]{1,128}$/),
    servicePoint: name(fields, "servicePoint"),
    at: integer(fields, "at", 1, 253_402_300_799),
  };
  switch (fields["type"]) {
    case "commission": {
      onlyFields(fields, [...COMMON, "utility", "region", "account", "device"]);
      return {
        type: "commission",
        ...common,
        utility: name(fields, "utility"),
        region: name(fields, "region"),
        account: matching(fields, "account", /^0x[0-9a-f]{40}$/),
        device: device(fields["device"]),
      } satisfies CommissionRecord;
    }
    case "swap": {
      onlyFields(fields, [...COMMON, "meterId", "final", "device"]);
      return {
        type: "swap",
        ...common,
        meterId: name(fields, "meterId"),
        final: registers(fields["final"], "final"),
        device: device(fields["device"]),
      } satisfies SwapRecord;
    }
    case "reset": {
      onlyFields(fields, [...COMMON, "meterId", "epoch", "final", "initial"]);
      return {
        type: "reset",
        ...common,
        meterId: name(fields, "meterId"),
        epoch: integer(fields, "epoch", 0, 2 ** 31 - 2),
        final: registers(fields["final"], "final"),
        initial: registers(fields["initial"], "initial"),
      } satisfies ResetRecord;
    }
    case "retire": {
      onlyFields(fields, [...COMMON, "meterId", "final"]);
      return {
        type: "retire",
        ...common,
        meterId: name(fields, "meterId"),
        final: registers(fields["final"], "final"),
      } satisfies RetireRecord;
    }
    default:
      throw new FieldError("type is none of commission, swap, reset, retire");
  }
}

function device(value: unknown): Device {
  const fields = object(value, "device");
  onlyFields(fields, ["meterId", "initial", "modulusWh", "maxPowerW", "secretSha256"]);
  const modulusWh = energy(fields, "modulusWh", 1n, 2n ** 53n);
  const initial = registers(fields["initial"], "initial");
  if (initial.importWh >= modulusWh || initial.exportWh >= modulusWh) {
    throw new FieldError("initial is not below modulusWh");
  }
  return {
    meterId: name(fields, "meterId"),
    initial,
    modulusWh,
    maxPowerW: integer(fields, "maxPowerW", 1, 2 ** 31 - 1),
    secretSha256: matching(fields, "secretSha256", /^[0-9a-f]{64}$/),
  };
}

function registers(value: unknown, field: string): Registers {
  const fields = object(value, field);
  onlyFields(fields, ["importWh", "exportWh"]);
  const max = BigInt(Number.MAX_SAFE_INTEGER);
  return { importWh: energy(fields, "importWh", 0n, max), exportWh: energy(fields, "exportWh", 0n, max) };
}

function object(value: unknown, field: string): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new FieldError(`${field} is not an object`);
  }
  return value as Fields;
}

function onlyFields(fields: Fields, known: readonly string[]): void {
  if (Object.keys(fields).some((field) => !known.includes(field))) throw new FieldError("unknown field");
}

function name(fields: Fields, field: string): string {
  const value = fields[field];
  if (typeof value !== "string" || !isName(value)) throw new FieldError(`${field} is not a name`);
  return value;
}

function matching(fields: Fields, field: string, pattern: RegExp): string {
  const value = fields[field];
  if (typeof value !== "string" || !pattern.test(value)) throw new FieldError(`${field} is malformed`);
  return value;
}

function integer(fields: Fields, field: string, min: number, max: number): number {
  const value = fields[field];
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < min || value > max) {
    throw new FieldError(`${field} is not an integer from ${min} to ${max}`);
  }
  return value;
}

function energy(fields: Fields, field: string, min: bigint, max: bigint): Wh {
  const value = fields[field];
  const wellFormed = typeof value === "string" && /^(0|[1-9]\d{0,18})$/.test(value);
  if (!wellFormed || BigInt(value) < min || BigInt(value) > max) {
    throw new FieldError(`${field} is not a decimal string from ${min} to ${max}`);
  }
  return wh(value);
}

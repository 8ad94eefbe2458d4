import type { RefusalReason } from "../domain/metering/apply-record.ts";
import { checkClock, decodeReadings } from "../domain/metering/codec.ts";
import type { Reading } from "../domain/metering/reading.ts";
import { decodeRegistryRecord } from "../domain/metering/registry-codec.ts";
import type { RegistryRecord } from "../domain/metering/registry-records.ts";
import type { LogRecord } from "../event-log/event-log.ts";
import { INGEST_HEADERS, KIND_HEADER, REGISTRY_KIND } from "../event-log/topics.ts";
import type { Birth } from "../ledger/registry.ts";

/** What a record of a region's topic means to the aggregator. */
export type Parsed =
  | {
      readonly kind: "readings";
      readonly readings: readonly Reading[];
      readonly servicePoint: string | undefined;
    }
  | {
      readonly kind: "registry";
      readonly record: RegistryRecord;
      /** Why it takes no effect, whatever the registry says. */
      readonly refused: RefusalReason | undefined;
    }
  | { readonly kind: "birth"; readonly birth: Birth }
  /** A reading, registry or birth record that cannot be read. Ingest and the registry's writer append none. */
  | { readonly kind: "unreadable" }
  /** Events and load profiles. */
  | { readonly kind: "other" };

/** Reads a record by its header `kind`. */
export function parseLogRecord(record: LogRecord): Parsed {
  switch (record.headers[KIND_HEADER]) {
    case "rd": {
      const decoded = decodeReadings(record.key, record.value);
      if (!decoded.ok) return { kind: "unreadable" };
      const servicePoint = record.headers[INGEST_HEADERS.servicePoint];
      return { kind: "readings", readings: decoded.readings, servicePoint };
    }
    case REGISTRY_KIND: {
      const decoded = decodeRegistryRecord(record.value);
      if (!decoded.ok) return { kind: "unreadable" };
      return {
        kind: "registry",
        record: decoded.record,
        refused: prematurity(decoded.record, record.appendTimeMs),
      };
    }
    case "birth": {
      const payload = storableJson(record.value);
      if (payload === undefined) return { kind: "unreadable" };
      const receivedMs = Number(record.headers[INGEST_HEADERS.receivedMs] ?? record.appendTimeMs);
      return { kind: "birth", birth: { meterId: record.key, payload, receivedMs } };
    }
    default:
      return { kind: "other" };
  }
}

/**
 * A record may lie as far ahead of the log's clock as a reading of ingest's. One of next year would open next year's
 * interval, and its partition would pause until then.
 */
function prematurity({ at }: RegistryRecord, appendTimeMs: number): RefusalReason | undefined {
  const fault = checkClock({ t: at }, appendTimeMs / 1000);
  return fault === "clock-ahead" ? "takes-effect-in-the-future" : undefined;
}

const MAX_DEPTH = 32;

/** JSON text that a `jsonb` column takes: no NUL, no lone surrogate, no deep nesting. */
function storableJson(bytes: Uint8Array): string | undefined {
  try {
    const value: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    if (!shallow(value, MAX_DEPTH)) return undefined;
    const text = JSON.stringify(value);
    // Well-formed pairs are written as themselves; only what jsonb refuses is left as an escape.
    return /\\u(0000|d[89a-f][0-9a-f]{2})/.test(text) ? undefined : text;
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof TypeError) return undefined;
    throw error;
  }
}

function shallow(value: unknown, depth: number): boolean {
  if (typeof value !== "object" || value === null) return true;
  return depth > 0 && Object.values(value).every((item) => shallow(item, depth - 1));
}

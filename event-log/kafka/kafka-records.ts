import type { IHeaders, KafkaMessage, Message } from "kafkajs";
import type { LogRecord, NewRecord } from "../event-log.ts";

/** What of a fetched message becomes a record: that of a consumer's batch and that of a bare fetch. */
export type FetchedMessage = Pick<KafkaMessage, "key" | "value" | "timestamp" | "offset" | "headers">;

/** A record as kafkajs produces it; the value is not copied. */
export function toMessage(record: NewRecord): Message {
  const { key, value, headers, partition } = record;
  const bytes = Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  return { key, value: bytes, headers: { ...headers }, partition };
}

/** A record as read back. The topic has LogAppendTime, so the message's timestamp is the broker's, unix ms. */
export function toRecord(message: FetchedMessage): LogRecord {
  return {
    offset: BigInt(message.offset),
    key: message.key?.toString() ?? "",
    headers: toHeaders(message.headers ?? {}),
    value: message.value ?? new Uint8Array(0),
    appendTimeMs: Number(message.timestamp),
  };
}

function toHeaders(headers: IHeaders): Record<string, string> {
  // fromEntries defines own properties, so that a header named __proto__ stays a header.
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, lastOf(value)]));
}

/**
 * kafkajs lists the values of a repeated name, and, for a name that every object inherits (`__proto__`, `toString`),
 * what was inherited before the value itself: the last one counts.
 */
function lastOf(value: IHeaders[string]): string {
  const last = Array.isArray(value) ? value.at(-1) : value;
  return last?.toString() ?? "";
}

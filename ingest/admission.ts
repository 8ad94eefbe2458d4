import { checkClock, type ClockLimits, decodeReadings } from "../domain/metering/codec.ts";
import { parseUpstreamTopic, type UpstreamKind } from "../domain/metering/topics.ts";
import { type NewRecord, partitionOf } from "../event-log/event-log.ts";
import { DEAD_LETTER_TOPIC, INGEST_HEADERS, regionTopic } from "../event-log/topics.ts";
import type { Meter } from "../ledger/meters.ts";

/** A publish as received. */
export interface Publish {
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly qos: 0 | 1 | 2;
  readonly receivedMs: number;
}

/** Reasons of ingest's own; the others are those of `domain/metering/codec.ts`. */
export const ADMISSION_FAULTS = [
  "unknown-topic",
  "foreign-topic",
  "unsupported-kind",
  "not-an-object",
] as const;

/** A record to append, and why it is a dead letter if it is one. */
export interface Admission {
  readonly record: NewRecord;
  readonly deadLetterReason: string | undefined;
}

interface Fault {
  readonly reason: string;
  readonly detail: string;
}

export interface AdmissionOptions {
  readonly partitionsPerRegion: number;
  readonly clockLimits: ClockLimits;
}

/**
 * Decides where a publish of an authenticated meter goes: to its region's topic, or whole to the dead letters. The
 * payload is kept as received either way.
 */
export function admit(publish: Publish, meter: Meter, options: AdmissionOptions): Admission {
  const topic = parseUpstreamTopic(publish.topic);
  const fault =
    topic === undefined
      ? { reason: "unknown-topic", detail: "not an upstream topic" }
      : (topicFault(topic, meter) ?? payloadFault(topic.kind, publish, meter, options.clockLimits));
  return fault === undefined
    ? { record: accepted(publish, meter, topic!.kind, options), deadLetterReason: undefined }
    : { record: deadLetter(publish, meter, topic?.kind, fault), deadLetterReason: fault.reason };
}

/** A meter publishes under its own id, in the utility and region it is registered in, and nowhere else. */
function topicFault(
  topic: { utility: string; region: string; meterId: string },
  meter: Meter,
): Fault | undefined {
  const foreign = (["utility", "region", "meterId"] as const).find((level) => topic[level] !== meter[level]);
  return foreign === undefined
    ? undefined
    : { reason: "foreign-topic", detail: `${foreign} is not the client's own` };
}

function payloadFault(
  kind: UpstreamKind,
  publish: Publish,
  meter: Meter,
  clockLimits: ClockLimits,
): Fault | undefined {
  if (kind === "rd") return readingsFault(publish, meter, clockLimits);
  if (kind === "lp") return { reason: "unsupported-kind", detail: "lp has no codec" };
  if (isJsonObject(publish.payload)) return undefined;
  return { reason: "not-an-object", detail: `${kind} is not one JSON object` };
}

function readingsFault(publish: Publish, meter: Meter, clockLimits: ClockLimits): Fault | undefined {
  const decoded = decodeReadings(meter.meterId, publish.payload);
  if (!decoded.ok) return decoded;
  const nowS = publish.receivedMs / 1000;
  for (const [index, reading] of decoded.readings.entries()) {
    const reason = checkClock(reading, nowS, clockLimits);
    if (reason !== undefined) return { reason, detail: `reading ${index}: t` };
  }
  return undefined;
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function isJsonObject(payload: Uint8Array): boolean {
  try {
    const value: unknown = JSON.parse(utf8.decode(payload));
    return typeof value === "object" && value !== null && !Array.isArray(value);
  } catch {
    return false;
  }
}

/** Placed by service point, so that the meters that follow one another at it share one order. */
function accepted(
  publish: Publish,
  meter: Meter,
  kind: UpstreamKind,
  { partitionsPerRegion }: AdmissionOptions,
): NewRecord {
  return {
    topic: regionTopic(meter.region),
    partition: partitionOf(meter.servicePoint, partitionsPerRegion),
    key: meter.meterId,
    headers: {
      [INGEST_HEADERS.kind]: kind,
      [INGEST_HEADERS.mqttTopic]: publish.topic,
      [INGEST_HEADERS.qos]: String(publish.qos),
      [INGEST_HEADERS.receivedMs]: String(publish.receivedMs),
      [INGEST_HEADERS.servicePoint]: meter.servicePoint,
    },
    value: publish.payload,
  };
}

function deadLetter(publish: Publish, meter: Meter, kind: UpstreamKind | undefined, fault: Fault): NewRecord {
  return {
    topic: DEAD_LETTER_TOPIC,
    partition: 0,
    key: meter.meterId,
    headers: {
      ...(kind === undefined ? {} : { [INGEST_HEADERS.kind]: kind }),
      [INGEST_HEADERS.mqttTopic]: publish.topic,
      [INGEST_HEADERS.qos]: String(publish.qos),
      [INGEST_HEADERS.receivedMs]: String(publish.receivedMs),
      [INGEST_HEADERS.client]: meter.meterId,
      [INGEST_HEADERS.reason]: fault.reason,
      [INGEST_HEADERS.detail]: fault.detail,
    },
    value: publish.payload,
  };
}

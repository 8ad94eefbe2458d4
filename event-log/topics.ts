/** The log's topics, and the headers its records carry. */

/** Readings, device data, events and registry records of a region. */
export function regionTopic(region: string): string {
  return `readings.${region}`;
}

/** What could not be read or was not allowed, of all regions. One partition. */
export const DEAD_LETTER_TOPIC = "dead-letters";

/** Header `kind` of a record in a region's topic: the upstream kinds, and `meter` for registry records. */
export const KIND_HEADER = "kind";

/** Headers of a record appended by ingest. Absent where there is nothing to say. */
export const INGEST_HEADERS = {
  kind: KIND_HEADER,
  /** MQTT topic as received. */
  mqttTopic: "mqtt-topic",
  qos: "qos",
  /** Ingest's clock at receipt, unix ms. */
  receivedMs: "received-ms",
  /** Service point of the meter at receipt. */
  servicePoint: "service-point",
  /** Dead letters: the authenticated client. */
  client: "client",
  /** Dead letters: reason code, see `domain/metering/codec.ts` and `ingest/`. */
  reason: "reason",
  /** Dead letters: the field or detail that was at fault, constant text without payload. */
  detail: "detail",
} as const;

/** The value of header `kind` of registry records. */
export const REGISTRY_KIND = "meter";

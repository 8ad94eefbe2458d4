import type { LogEntry, logCreator } from "kafkajs";
import { logLevel } from "kafkajs";
import type { Logger } from "pino";

/** The same complaint is told once in this time, ms: kafkajs repeats it at every retry of an outage. */
const REPEAT_MS = 30_000;

/** Most complaints remembered; the oldest goes. */
const REMEMBERED = 200;

/**
 * What a broker answers while coordinators load, leaders move or a group rebalances, which kafkajs calls an error
 * though it is tried again or a caller takes it for what it is; and what a client that was cut says, which is on purpose (kafka-client.ts).
 */
const PASSING =
  /coordinator|rebalanc|not the leader|leader for this|leadership election|generation id|member id|does not host this topic|topic creation errors|client was cut/i;

/**
 * Maps kafkajs's log to pino: a constant message with kafkajs's as a field. Its errors are warnings here, since every
 * operation that fails for good also rejects, and its caller decides what that means.
 */
export function clientLog(log: Logger): logCreator {
  const told = new Map<string, number>();
  return () => (entry) => {
    const fields = fieldsOf(entry);
    if (entry.level > logLevel.WARN || PASSING.test(`${fields.detail} ${fields.error ?? ""}`)) {
      log.debug(fields, "Kafka client");
      return;
    }
    const what = `${entry.namespace} ${fields.detail} ${fields.broker ?? ""}`;
    const now = performance.now();
    if (now - (told.get(what) ?? -Infinity) < REPEAT_MS) {
      log.debug(fields, "Kafka client");
      return;
    }
    told.delete(what);
    told.set(what, now);
    if (told.size > REMEMBERED) told.delete(told.keys().next().value!);
    log.warn(fields, "Kafka client");
  };
}

function fieldsOf({ namespace, log }: LogEntry) {
  const { message, broker, groupId, error } = log as Record<string, unknown>;
  return {
    client: namespace,
    detail: textOf(message) ?? "",
    broker: textOf(broker),
    group: textOf(groupId),
    error: textOf(error),
  };
}

function textOf(value: unknown): string | undefined {
  if (value instanceof Error) return value.message;
  return typeof value === "string" ? value : undefined;
}

import { Counter, Gauge, type Registry } from "prom-client";
import type { CloseReason } from "./packet-gate.ts";

/**
 * What became of every PUBLISH packet. At any instant
 *
 *     received = appended + deadLettered + repeated + failed + inFlight
 *     appended + deadLettered = acknowledged + qos0 + unacknowledgeable
 *
 * Packets that close the socket before they are taken up (malformed, oversized, forbidden topics) are not received:
 * `closed` counts them by reason.
 */
export class IngestCounters {
  readonly received: Counter;
  readonly appended: Counter;
  readonly deadLettered: Counter<"reason">;
  /** QoS 2 PUBLISH packets whose first sending was taken up before. */
  readonly repeated: Counter;
  /** Outcome unknown or refused; the client was disconnected without an acknowledgement. */
  readonly failed: Counter;
  readonly inFlight: Gauge;
  /** First PUBACK or PUBREC of a durable publish. */
  readonly acknowledged: Counter<"packet">;
  /** Durable publishes of QoS 0, which nobody awaits. */
  readonly qos0: Counter;
  /** Durable, but the connection was gone. */
  readonly unacknowledgeable: Counter;
  readonly connections: Gauge;
  readonly accepted: Counter;
  readonly refused: Counter<"code">;
  readonly closed: Counter<"reason">;

  constructor(registry: Registry) {
    const registers = [registry];
    const counter = (name: string, help: string) => new Counter({ name, help, registers });
    this.received = counter("ingest_publish_received_total", "PUBLISH packets taken up.");
    this.appended = counter("ingest_publish_appended_total", "Publishes durable in a region's topic.");
    this.deadLettered = new Counter({
      name: "ingest_publish_dead_lettered_total",
      help: "Publishes durable in the dead-letter topic, by reason.",
      labelNames: ["reason"],
      registers,
    });
    this.repeated = counter(
      "ingest_publish_repeated_total",
      "QoS 2 PUBLISH packets sent again before PUBREL.",
    );
    this.failed = counter("ingest_publish_failed_total", "Publishes given up; the client was disconnected.");
    this.inFlight = new Gauge({
      name: "ingest_publish_in_flight",
      help: "Publishes taken up and not settled.",
      registers,
    });
    this.acknowledged = new Counter({
      name: "ingest_puback_total",
      help: "First acknowledgements of durable publishes, by packet.",
      labelNames: ["packet"],
      registers,
    });
    this.qos0 = counter(
      "ingest_publish_qos0_total",
      "Durable publishes of QoS 0, which get no acknowledgement.",
    );
    this.unacknowledgeable = counter(
      "ingest_publish_unacknowledgeable_total",
      "Durable publishes whose connection was gone.",
    );
    this.connections = new Gauge({ name: "ingest_connections", help: "Open connections.", registers });
    this.accepted = counter("ingest_connects_accepted_total", "CONNECTs answered with code 0.");
    this.refused = new Counter({
      name: "ingest_connects_refused_total",
      help: "CONNECTs refused, by CONNACK code; `limit` were dropped above the connection limit.",
      labelNames: ["code"],
      registers,
    });
    this.closed = new Counter({
      name: "ingest_connections_closed_total",
      help: "Connections ended, by reason.",
      labelNames: ["reason"],
      registers,
    });
  }

  connectionClosed(reason: CloseReason): void {
    this.connections.dec();
    this.closed.inc({ reason });
  }
}

import type { Clock } from "../service/clock.ts";
import { GridrootError } from "../service/errors.ts";
import type { FaultPoints } from "../service/faults.ts";
import { admit, type AdmissionOptions } from "./admission.ts";
import type { IngestCounters } from "./counters.ts";
import type { GroupCommit } from "./group-commit.ts";
import type { CloseReason } from "./packet-gate.ts";
import type { Session, Unreleased } from "./sessions.ts";

/** A PUBLISH as the broker parsed it. */
export interface PublishPacket {
  readonly topic: string;
  readonly payload: string | Buffer;
  readonly qos: 0 | 1 | 2;
  readonly messageId?: number | undefined;
  /** The packet's remaining length, bytes. */
  readonly length?: number | undefined;
}

/** Lets the broker acknowledge; with an error it closes the connection instead. */
export type Acknowledge = (error?: Error) => void;

export interface PublishHandlerOptions extends AdmissionOptions {
  readonly maxUnreleasedPerClient: number;
}

/**
 * Takes a PUBLISH from the broker to the log, and lets it be acknowledged when it is durable there. Acknowledgements
 * are released in the order in which the publishes of a client came.
 */
export class PublishHandler {
  readonly #options: PublishHandlerOptions;
  readonly #commit: GroupCommit;
  readonly #counters: IngestCounters;
  readonly #clock: Clock;
  readonly #faults: FaultPoints;

  constructor(
    options: PublishHandlerOptions,
    dependencies: { commit: GroupCommit; counters: IngestCounters; clock: Clock; faults: FaultPoints },
  ) {
    this.#options = options;
    this.#commit = dependencies.commit;
    this.#counters = dependencies.counters;
    this.#clock = dependencies.clock;
    this.#faults = dependencies.faults;
  }

  handle(session: Session, packet: PublishPacket, acknowledge: Acknowledge): void {
    const bytes = packet.length ?? 0;
    session.gate.received(bytes);
    const forbidden = protocolFault(packet);
    if (forbidden !== undefined) {
      session.gate.settled(bytes);
      acknowledge(closing(forbidden));
      return;
    }
    this.#counters.received.inc();
    this.#faults.hit("ingest.received");
    if (packet.qos === 2) this.#handleExactlyOnce(session, packet, acknowledge);
    else this.#submit(session, packet, acknowledge, undefined);
  }

  /** PUBREL: the identifier is free again. */
  release(session: Session, messageId: number): void {
    session.unreleased.delete(messageId);
  }

  #handleExactlyOnce(session: Session, packet: PublishPacket, acknowledge: Acknowledge): void {
    const messageId = packet.messageId!;
    const first = session.unreleased.get(messageId);
    if (first !== undefined) {
      this.#counters.repeated.inc();
      const answer = (): void => {
        session.gate.settled(packet.length ?? 0);
        if (!session.gate.destroyed) acknowledge();
      };
      if (first.durable) answer();
      else first.repeats.push(answer);
      return;
    }
    if (session.unreleased.size >= this.#options.maxUnreleasedPerClient) {
      this.#counters.failed.inc();
      session.gate.settled(packet.length ?? 0);
      acknowledge(closing("too-many-unreleased"));
      return;
    }
    const unreleased: Unreleased = { durable: false, repeats: [] };
    session.unreleased.set(messageId, unreleased);
    this.#submit(session, packet, acknowledge, unreleased);
  }

  #submit(
    session: Session,
    packet: PublishPacket,
    acknowledge: Acknowledge,
    unreleased: Unreleased | undefined,
  ): void {
    const payload = typeof packet.payload === "string" ? Buffer.from(packet.payload) : packet.payload;
    const publish = { topic: packet.topic, payload, qos: packet.qos, receivedMs: this.#clock.nowMs() };
    const { record, deadLetterReason } = admit(publish, session.meter, this.#options);
    this.#counters.inFlight.inc();
    this.#commit.submit({
      record,
      bytes: packet.length ?? 0,
      settle: (fault) => {
        this.#counters.inFlight.dec();
        if (fault !== undefined) {
          this.#counters.failed.inc();
        } else {
          if (deadLetterReason === undefined) this.#counters.appended.inc();
          else this.#counters.deadLettered.inc({ reason: deadLetterReason });
          this.#countAnswer(session, packet.qos);
        }
        if (!session.gate.destroyed) acknowledge(fault);
        if (unreleased !== undefined) settleRepeats(unreleased, fault === undefined);
        session.gate.settled(packet.length ?? 0);
      },
    });
  }

  #countAnswer(session: Session, qos: 0 | 1 | 2): void {
    if (qos === 0) this.#counters.qos0.inc();
    else if (session.gate.destroyed) this.#counters.unacknowledgeable.inc();
    else this.#counters.acknowledged.inc({ packet: qos === 1 ? "puback" : "pubrec" });
  }
}

/** Repeats are answered after the first: with its acknowledgement, or not at all, for the connection is closing. */
function settleRepeats(unreleased: Unreleased, isDurable: boolean): void {
  unreleased.durable = isDurable;
  for (const answer of unreleased.repeats.splice(0)) answer();
}

/**
 * What MQTT forbids and the broker lets pass: U+0000 in a topic [MQTT-1.5.3-2], text that is not UTF-8
 * [MQTT-1.5.3-1], which decodes to U+FFFD, and packet identifier 0 [MQTT-2.3.1-1].
 */
function protocolFault(packet: PublishPacket): CloseReason | undefined {
  if (packet.topic.includes("\0") || packet.topic.includes("\uFFFD")) return "forbidden-topic";
  return packet.qos > 0 && !packet.messageId ? "malformed" : undefined;
}

function closing(reason: CloseReason): GridrootError {
  return new GridrootError(reason, `connection closed: ${reason}`);
}

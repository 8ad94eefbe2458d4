import type { NewRecord } from "../event-log/event-log.ts";
import type { Clock } from "../service/clock.ts";
import { GridrootError } from "../service/errors.ts";
import type { FaultPoints } from "../service/faults.ts";
import { type Admission, admit, type AdmissionOptions } from "./admission.ts";
import type { IngestCounters } from "./counters.ts";
import type { GroupCommit, Pending } from "./group-commit.ts";
import type { CloseReason } from "./packet-gate.ts";
import type { Session, Submitted } from "./sessions.ts";

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
    else this.#submit(session, packet, acknowledge);
  }

  /** PUBREL: the identifier is free again. */
  release(session: Session, messageId: number): void {
    session.unreleased.delete(messageId);
  }

  #handleExactlyOnce(session: Session, packet: PublishPacket, acknowledge: Acknowledge): void {
    const messageId = packet.messageId!;
    if (session.unreleased.has(messageId)) {
      this.#counters.repeated.inc();
      this.#answerRepeat(session, packet, acknowledge);
    } else if (session.unreleased.size >= this.#options.maxUnreleasedPerClient) {
      this.#counters.failed.inc();
      session.gate.settled(packet.length ?? 0);
      acknowledge(closing("too-many-unreleased"));
    } else {
      session.unreleased.add(messageId);
      this.#submit(session, packet, acknowledge);
    }
  }

  /** A repeat waits for what came before it, its first sending included, so that PUBRECs keep their order. */
  #answerRepeat({ gate, last }: Session, packet: PublishPacket, acknowledge: Acknowledge): void {
    const answer = (): void => {
      if (!gate.destroyed) acknowledge();
      gate.settled(packet.length ?? 0);
    };
    if (last === undefined || last.isSettled) answer();
    else last.afterwards(answer);
  }

  #submit(session: Session, packet: PublishPacket, acknowledge: Acknowledge): void {
    const payload = typeof packet.payload === "string" ? Buffer.from(packet.payload) : packet.payload;
    const admission = admit(
      { topic: packet.topic, payload, qos: packet.qos, receivedMs: this.#clock.nowMs() },
      session.meter,
      this.#options,
    );
    const pending = new PendingPublish(session, packet, admission, acknowledge, this.#counters);
    session.last = pending;
    this.#counters.inFlight.inc();
    this.#commit.submit(pending);
  }
}

class PendingPublish implements Pending, Submitted {
  readonly record: NewRecord;
  readonly bytes: number;
  readonly #session: Session;
  readonly #qos: 0 | 1 | 2;
  readonly #deadLetterReason: string | undefined;
  readonly #acknowledge: Acknowledge;
  readonly #counters: IngestCounters;
  #callbacks: (() => void)[] | undefined;
  isSettled = false;

  constructor(
    session: Session,
    packet: PublishPacket,
    admission: Admission,
    acknowledge: Acknowledge,
    counters: IngestCounters,
  ) {
    this.record = admission.record;
    this.bytes = packet.length ?? 0;
    this.#session = session;
    this.#qos = packet.qos;
    this.#deadLetterReason = admission.deadLetterReason;
    this.#acknowledge = acknowledge;
    this.#counters = counters;
  }

  afterwards(callback: () => void): void {
    this.#callbacks ??= [];
    this.#callbacks.push(callback);
  }

  settle(fault: GridrootError | undefined): void {
    const { gate } = this.#session;
    this.isSettled = true;
    this.#counters.inFlight.dec();
    if (fault === undefined) this.#countDurable(!gate.destroyed);
    else this.#counters.failed.inc();
    if (!gate.destroyed) this.#acknowledge(fault);
    for (const callback of this.#callbacks ?? []) callback();
    gate.settled(this.bytes);
  }

  #countDurable(isConnected: boolean): void {
    if (this.#deadLetterReason === undefined) this.#counters.appended.inc();
    else this.#counters.deadLettered.inc({ reason: this.#deadLetterReason });
    if (this.#qos === 0) this.#counters.qos0.inc();
    else if (isConnected) this.#counters.acknowledged.inc({ packet: this.#qos === 1 ? "puback" : "pubrec" });
    else this.#counters.unacknowledgeable.inc();
  }
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

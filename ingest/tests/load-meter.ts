import { reading, SECRET, rdTopic } from "./ingest-under-test.ts";
import { publishPacket, RawClient } from "./raw-client.ts";

/** Publishes that a load meter sends ahead of their acknowledgements. */
const WINDOW = 8;

/**
 * A meter that publishes readings 1, 2, 3, ... for as long as it is told to, and, like a real one, keeps each until
 * it is acknowledged: after a lost connection it connects again and sends what is open again, in order.
 */
export class LoadMeter {
  readonly meterId: string;
  readonly acknowledged = new Set<number>();
  readonly #port: number;
  readonly #qos: 1 | 2;
  readonly #open: number[] = [];
  #client: RawClient | undefined;
  #nextSeq = 1;
  #lastSeq = Number.POSITIVE_INFINITY;
  #isAbandoned = false;

  constructor(options: { meterId: string; port: number; qos: 1 | 2 }) {
    this.meterId = options.meterId;
    this.#port = options.port;
    this.#qos = options.qos;
  }

  /** Publishes until `finish` was called and nothing is open any more. */
  async run(): Promise<void> {
    while (!this.#isAbandoned && (this.#open.length > 0 || this.#nextSeq <= this.#lastSeq)) {
      const client = new RawClient(this.#port);
      this.#client = client;
      client.onPacket = (packet) => {
        if (packet.cmd === "connack" && packet.returnCode === 0) this.#resend(client);
        if (packet.cmd === "puback" || packet.cmd === "pubrec") this.#settle(client, packet.messageId!);
      };
      client.hello(this.meterId, SECRET);
      await client.ended();
      await new Promise((done) => setTimeout(done, 20));
    }
  }

  /** Sends no new readings; `run` resolves when the open ones are acknowledged. */
  finish(): void {
    this.#lastSeq = this.#nextSeq - 1;
    if (this.#open.length === 0) this.#client?.close();
  }

  /** Gives up at once. */
  abandon(): void {
    this.#isAbandoned = true;
    this.#client?.close();
  }

  #resend(client: RawClient): void {
    for (const seq of this.#open) this.#publish(client, seq);
    this.#fill(client);
  }

  #settle(client: RawClient, seq: number): void {
    if (this.#qos === 2) client.send({ cmd: "pubrel", messageId: seq });
    this.acknowledged.add(seq);
    this.#open.splice(this.#open.indexOf(seq), 1);
    this.#fill(client);
  }

  #fill(client: RawClient): void {
    while (this.#open.length < WINDOW && this.#nextSeq <= this.#lastSeq) {
      this.#open.push(this.#nextSeq);
      this.#publish(client, this.#nextSeq);
      this.#nextSeq += 1;
    }
    if (this.#open.length === 0) client.close();
  }

  #publish(client: RawClient, seq: number): void {
    client.send(publishPacket(rdTopic(this.meterId), reading(seq), seq, { qos: this.#qos }));
  }
}

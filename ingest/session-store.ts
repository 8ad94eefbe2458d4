import { Readable } from "node:stream";

/** What the broker hands to its persistence for a packet. */
interface StoredPacket {
  readonly cmd: string;
  readonly messageId?: number;
}

const NOT_STORED = new Error("not stored");

/**
 * The broker's persistence, which keeps nothing: no retained message, no will, no subscription or outgoing message of
 * a client that is away. Only QoS 2 identifiers between PUBLISH and PUBREL have state, and they are kept with the
 * session, by `PublishHandler`: the broker's own store is keyed by client id, and a client that merely claims an id
 * empties it when it is refused.
 *
 * A PUBLISH is never found, so that the answers to first sendings and repeats take the same way and keep their order.
 * The names and promises are those of aedes-persistence 10.
 */
export class SessionStore<Client> {
  readonly #release: (client: Client, messageId: number) => void;

  constructor(release: (client: Client, messageId: number) => void) {
    this.#release = release;
  }

  async setup(): Promise<void> {}
  async storeRetained(): Promise<void> {}
  createRetainedStream(): Readable {
    return Readable.from([]);
  }
  createRetainedStreamCombi(): Readable {
    return Readable.from([]);
  }
  async addSubscriptions(): Promise<void> {}
  async removeSubscriptions(): Promise<void> {}
  async cleanSubscriptions(): Promise<void> {}
  async subscriptionsByClient(): Promise<readonly never[]> {
    return [];
  }
  async subscriptionsByTopic(): Promise<readonly never[]> {
    return [];
  }
  async outgoingEnqueue(): Promise<void> {}
  async outgoingEnqueueCombi(): Promise<void> {}
  async outgoingUpdate(): Promise<void> {}
  async outgoingClearMessageId(): Promise<undefined> {
    return undefined;
  }
  outgoingStream(): Readable {
    return Readable.from([]);
  }
  async incomingStorePacket(): Promise<void> {}
  async incomingGetPacket(_client: Client, packet: StoredPacket): Promise<StoredPacket> {
    if (packet.cmd === "publish") throw NOT_STORED;
    return packet;
  }
  async incomingDelPacket(client: Client, packet: StoredPacket): Promise<void> {
    if (packet.messageId !== undefined) this.#release(client, packet.messageId);
  }
  async cleanIncoming(): Promise<void> {}
  async putWill(): Promise<void> {}
  async delWill(): Promise<void> {}
  streamWill(): Readable {
    return Readable.from([]);
  }
  async destroy(): Promise<void> {}
}

import { GridrootError } from "../../service/errors.ts";
import type { LogRecord, PartitionBounds } from "../event-log.ts";
import { errorTypes } from "./kafka-errors.ts";
import { type FetchedMessage, toRecord } from "./kafka-records.ts";

/** What kafkajs's broker can do beside what it declares. */
export interface LeaderBroker {
  readonly connectionPool: { getConnection(index: number): Promise<unknown> };
  listOffsets(request: {
    replicaId?: number;
    isolationLevel: number;
    topics: { topic: string; partitions: { partition: number; timestamp: number }[] }[];
  }): Promise<{ responses: { topic: string; partitions: { partition: number; offset: string }[] }[] }>;
  deleteRecords(request: {
    topics: { topic: string; partitions: { partition: number; offset: string }[] }[];
  }): Promise<unknown>;
  fetch(request: {
    isolationLevel: number;
    maxWaitTime: number;
    minBytes: number;
    maxBytes: number;
    topics: { topic: string; partitions: { partition: number; fetchOffset: string; maxBytes: number }[] }[];
  }): Promise<{ responses: { partitions: { messages: FetchedMessage[] }[] }[] }>;
}

/** Timestamps of ListOffsets that stand for the two ends of a partition. */
const OLDEST = -2;
const NEWEST = -1;

/** The replica id of ListOffsets that is answered with the end of the leader's log instead of the committed end. */
const DEBUGGING_REPLICA = -2;

const READ_UNCOMMITTED = 0;

/** kafkajs fetches on a second connection, which it makes when it is needed first. */
const FETCH_CONNECTION = 1;

/** Where that connection is being made. */
const connecting = new WeakMap<LeaderBroker, Promise<unknown>>();

/** kafkajs would make a connection for each of several fetches that begin at once, and lose all but the last. */
async function connectForFetch(broker: LeaderBroker): Promise<void> {
  let pending = connecting.get(broker);
  if (pending === undefined) {
    pending = broker.connectionPool.getConnection(FETCH_CONNECTION).finally(() => connecting.delete(broker));
    connecting.set(broker, pending);
  }
  await pending;
}

/** Time that a fetch waits for records which should be there already, ms. */
const FETCH_WAIT_MS = 200;

/** The requests of the log to one partition's leader. Rejects with kafkajs's errors. */
export class LeaderRequests {
  readonly #broker: LeaderBroker;
  readonly #name: string;
  readonly #partition: number;

  /** `name` is the topic's in the cluster. */
  constructor(target: { broker: LeaderBroker; name: string; partition: number }) {
    this.#broker = target.broker;
    this.#name = target.name;
    this.#partition = target.partition;
  }

  /** The offsets that the log holds: `low` <= offset < `next`, where `next` is the end of what is committed. */
  async ends(): Promise<{ readonly low: bigint; readonly next: bigint }> {
    const [low, next] = await Promise.all([this.#offset(OLDEST), this.#offset(NEWEST)]);
    return { low: low!, next: next! };
  }

  /** The end of the leader's log, what is not committed yet included. */
  async logEnd(): Promise<bigint> {
    return (await this.#offset(NEWEST, DEBUGGING_REPLICA))!;
  }

  /** The first committed record with at least this append time; undefined where there is none. */
  firstAtOrAfter(appendTimeMs: number): Promise<bigint | undefined> {
    return this.#offset(appendTimeMs);
  }

  /**
   * Records from `offset` on, those of at least one stored batch, without what the batch holds before `offset`.
   * Undefined where the log does not reach to the offset at either end.
   */
  async fetch(offset: bigint, maxBytes: number): Promise<readonly LogRecord[] | undefined> {
    const partitions = [{ partition: this.#partition, fetchOffset: String(offset), maxBytes }];
    await connectForFetch(this.#broker);
    try {
      const { responses } = await this.#broker.fetch({
        isolationLevel: READ_UNCOMMITTED,
        maxWaitTime: FETCH_WAIT_MS,
        minBytes: 1,
        maxBytes,
        topics: [{ topic: this.#name, partitions }],
      });
      const messages = responses.flatMap(({ partitions }) => partitions.flatMap(({ messages }) => messages));
      return messages.map(toRecord).filter((record) => record.offset >= offset);
    } catch (cause) {
      if (errorTypes(cause).has("OFFSET_OUT_OF_RANGE")) return undefined;
      throw cause;
    }
  }

  /** Moves the log's beginning up to `offset`; one below it changes nothing. */
  async deleteBelow(offset: bigint): Promise<void> {
    const partitions = [{ partition: this.#partition, offset: String(offset) }];
    await this.#broker.deleteRecords({ topics: [{ topic: this.#name, partitions }] });
  }

  /** Waits for an append whose append time is taken but whose records cannot be seen yet. */
  async passAppendInFlight(): Promise<void> {
    // The leader takes the time and writes the records under one lock of the partition. Moving its beginning takes
    // that lock as well, and moving it to 0 moves nothing.
    await this.deleteBelow(0n);
  }

  async #offset(timestamp: number, replicaId?: number): Promise<bigint | undefined> {
    const { responses } = await this.#broker.listOffsets({
      ...(replicaId === undefined ? {} : { replicaId }),
      isolationLevel: READ_UNCOMMITTED,
      topics: [{ topic: this.#name, partitions: [{ partition: this.#partition, timestamp }] }],
    });
    const offset = BigInt(responses[0]?.partitions[0]?.offset ?? "-1");
    if (offset < 0n && timestamp < 0) {
      throw new GridrootError("log-unavailable", "a broker did not tell an offset", { retryable: true });
    }
    return offset < 0n ? undefined : offset;
  }
}

/**
 * What a partition holds for consumers. `trim` leaves one record more below `first`, with which positions at `first`
 * are compared; a log that never was trimmed, or that somebody emptied wholly, has none.
 */
export function boundsOf({ low, next }: { readonly low: bigint; readonly next: bigint }): PartitionBounds {
  return { first: low === 0n || low === next ? low : low + 1n, next };
}

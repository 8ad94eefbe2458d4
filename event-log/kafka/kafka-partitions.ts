import { setTimeout as delay } from "node:timers/promises";
import { GridrootError } from "../../service/errors.ts";
import type { LogRecord, PartitionBounds, TopicPartition } from "../event-log.ts";
import type { KafkaConnection } from "./kafka-connection.ts";
import { boundsOf, type LeaderRequests } from "./leader-requests.ts";
import { PartitionLeaders, type PartitionLeadersOptions } from "./partition-leaders.ts";
import type { PositionSource } from "./positions.ts";

/** Most bytes of one fetch, and what it asks for per record that is wanted. */
const FETCH_BYTES = 1_048_576;
const FETCH_BYTES_PER_RECORD = 2_048;

/** Pause between looks whether the replicas have what the leader has, ms. */
const REPLICAS_PAUSE_MS = 10;

/** What partitions hold, outside of groups: bounds, records, offsets by time; and trimming. */
export class KafkaPartitions implements PositionSource {
  readonly clusterId: string;
  readonly #timeoutMs: number;
  readonly #leaders: PartitionLeaders;

  constructor(options: PartitionLeadersOptions, dependencies: { connection: KafkaConnection }) {
    this.clusterId = dependencies.connection.clusterId;
    this.#timeoutMs = options.timeoutMs;
    this.#leaders = new PartitionLeaders(options, dependencies);
  }

  bounds(partition: TopicPartition): Promise<PartitionBounds> {
    return this.#leaders.withLeader(partition, async (leader) => boundsOf(await leader.ends()));
  }

  recordAt(partition: TopicPartition, offset: bigint): Promise<LogRecord | undefined> {
    return this.#leaders.withLeader(partition, async (leader) => {
      // A leader sends a whole stored batch, however few bytes are asked for.
      const records = await leader.fetch(offset, 1);
      return records?.find((record) => record.offset === offset);
    });
  }

  read(partition: TopicPartition, fromOffset: bigint, maxRecords: number): Promise<readonly LogRecord[]> {
    return this.#leaders.withLeader(partition, async (leader) => {
      const { first, next } = boundsOf(await leader.ends());
      const records: LogRecord[] = [];
      let offset = fromOffset > first ? fromOffset : first;
      while (offset < next && records.length < maxRecords) {
        const wantedBytes = (maxRecords - records.length) * FETCH_BYTES_PER_RECORD;
        const fetched = await leader.fetch(offset, Math.min(wantedBytes, FETCH_BYTES));
        if (fetched === undefined || fetched.length === 0) throw missingRecords(partition, offset);
        for (const record of fetched) records.push(record);
        offset = fetched.at(-1)!.offset + 1n;
      }
      return records.slice(0, maxRecords);
    });
  }

  /**
   * Answers only after an append in flight and after the replicas have what the leader has, so that no record with a
   * time that has passed can come to stand at or after the answer. Append times are the leader's clock: after a move
   * of the leader the answer is as good as the brokers' clocks agree.
   */
  offsetAfter(partition: TopicPartition, appendTimeMs: number): Promise<bigint> {
    return this.#leaders.withLeader(partition, async (leader) => {
      await leader.passAppendInFlight();
      const end = await leader.logEnd();
      const { first } = await this.#committed(leader, end);
      // The end was read first: what is appended between the two requests is later and does not count.
      const found = (await leader.firstAtOrAfter(Math.floor(appendTimeMs) + 1)) ?? end;
      if (found < first) return first;
      return found < end ? found : end;
    });
  }

  /** Keeps the record before `belowOffset`: the mark of a position there names it. */
  trim(partition: TopicPartition, belowOffset: bigint): Promise<void> {
    return this.#leaders.withLeader(partition, async (leader) => {
      const { low, next } = await leader.ends();
      const beginning = (belowOffset < next ? belowOffset : next) - 1n;
      if (beginning > low) await leader.deleteBelow(beginning);
    });
  }

  close(): Promise<void> {
    return this.#leaders.close();
  }

  /** Waits until the replicas have what lies below `end`; returns what consumers see then. */
  async #committed(leader: LeaderRequests, end: bigint): Promise<PartitionBounds> {
    const deadline = performance.now() + this.#timeoutMs;
    for (;;) {
      const bounds = boundsOf(await leader.ends());
      if (bounds.next >= end) return bounds;
      if (performance.now() > deadline) {
        throw new GridrootError("log-unavailable", "replicas lag behind their leader", { retryable: true });
      }
      await delay(REPLICAS_PAUSE_MS);
    }
  }
}

function missingRecords({ topic, partition }: TopicPartition, offset: bigint): GridrootError {
  return new GridrootError(
    "log-unavailable",
    `offset ${offset} of partition ${partition} of topic ${topic} was not answered`,
    { retryable: true },
  );
}

import type { LogRecord, PartitionBounds, Position, PositionMismatch, TopicPartition } from "../event-log.ts";

/** What a stored position is compared with. */
export interface PositionSource {
  readonly clusterId: string;
  /**
   * What the partition holds for consumers. Below `first` lies one more record, which nobody consumes any more:
   * trimming leaves it so that the mark of a position at `first` can still be compared (kafka-partitions.ts).
   */
  bounds(partition: TopicPartition): Promise<PartitionBounds>;
  /** One record read back, the one just below `first` too; undefined where the log does not hold it. */
  recordAt(partition: TopicPartition, offset: bigint): Promise<LogRecord | undefined>;
}

/**
 * Mark of a position: cluster id, append time and key of the record before it. kafkajs shows no topic ids, so the
 * record that was consumed last is what tells a log from another one of the same name and length.
 */
export function markAfter(clusterId: string, record: LogRecord): string {
  return `${clusterId}/${record.appendTimeMs}/${record.key}`;
}

/** The position just after a record. */
export function positionAfter(clusterId: string, record: LogRecord): Position {
  return { nextOffset: record.offset + 1n, mark: markAfter(clusterId, record) };
}

/**
 * Compares a stored position with the log: undefined where it fits. Reads the record before it back. Rejects when
 * the log cannot be read, which is no mismatch yet.
 */
export async function checkPosition(
  source: PositionSource,
  partition: TopicPartition,
  position: Position,
): Promise<PositionMismatch | undefined> {
  const { nextOffset, mark } = position;
  if (mark.slice(0, mark.indexOf("/")) !== source.clusterId) {
    return { code: "log-recreated", message: `the stored offset ${nextOffset} belongs to another cluster` };
  }
  const { first, next } = await source.bounds(partition);
  if (nextOffset > next) {
    return {
      code: "log-truncated",
      message: `the log ends at ${next}, before the stored offset ${nextOffset}`,
    };
  }
  if (nextOffset < first) {
    return {
      code: "log-trimmed",
      message: `the log begins at ${first}, after the stored offset ${nextOffset}`,
    };
  }
  const before = await source.recordAt(partition, nextOffset - 1n);
  if (before === undefined || markAfter(source.clusterId, before) !== mark) {
    return {
      code: "log-recreated",
      message: `the record before offset ${nextOffset} is not the one consumed: the topic was made anew or restored`,
    };
  }
  return undefined;
}

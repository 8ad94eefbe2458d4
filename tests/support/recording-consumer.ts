import assert from "node:assert/strict";
import type {
  EventLog,
  GroupMember,
  LogRecord,
  PartitionHandler,
  Position,
  PositionMismatch,
  RecordBatch,
  TopicPartition,
} from "../../event-log/event-log.ts";

/** `topic/partition`. */
export type PartitionName = string;

export function nameOf({ topic, partition }: TopicPartition): PartitionName {
  return `${topic}/${partition}`;
}

/** What the members of one group have stored and seen, as their ledger would. */
export class GroupRecord {
  readonly positions = new Map<PartitionName, Position>();
  readonly owners = new Map<PartitionName, RecordingConsumer>();
  readonly records = new Map<PartitionName, LogRecord[]>();
  /** Breaches of the contract seen on the way. */
  readonly breaches: string[] = [];

  count(): number {
    return [...this.records.values()].reduce((sum, list) => sum + list.length, 0);
  }
}

/** A member that stores its position after each batch and watches that the contract of handlers is kept. */
export class RecordingConsumer implements PartitionHandler {
  readonly group: GroupRecord;
  readonly owned = new Set<PartitionName>();
  readonly halts = new Map<PartitionName, PositionMismatch>();
  readonly calls: string[] = [];
  readonly batchSizes: number[] = [];
  /** Replaces what is done with a batch before it counts as consumed. */
  onBatch: (batch: RecordBatch, signal: AbortSignal) => Promise<void> = () => Promise.resolve();
  readonly #busy = new Set<PartitionName>();
  #member: GroupMember | undefined;

  constructor(group: GroupRecord = new GroupRecord()) {
    this.group = group;
  }

  async join(log: EventLog, group: string, topics: readonly string[]): Promise<this> {
    this.#member = await log.join(group, topics, this);
    return this;
  }

  get member(): GroupMember {
    assert.ok(this.#member, "not joined");
    return this.#member;
  }

  assigned(partition: TopicPartition): Promise<Position | undefined> {
    const name = nameOf(partition);
    this.calls.push(`assigned ${name}`);
    const owner = this.group.owners.get(name);
    if (owner !== undefined) this.group.breaches.push(`${name} has two owners`);
    this.group.owners.set(name, this);
    this.owned.add(name);
    return Promise.resolve(this.group.positions.get(name));
  }

  async records(batch: RecordBatch, signal: AbortSignal): Promise<void> {
    const name = nameOf(batch);
    if (!this.owned.has(name)) this.group.breaches.push(`records of ${name}, which is not held`);
    if (this.#busy.has(name)) this.group.breaches.push(`calls for ${name} overlap`);
    this.#busy.add(name);
    try {
      await this.onBatch(batch, signal);
      this.#consume(name, batch);
    } finally {
      this.#busy.delete(name);
    }
  }

  revoked(partition: TopicPartition): Promise<void> {
    const name = nameOf(partition);
    this.calls.push(`revoked ${name}`);
    if (!this.owned.delete(name)) this.group.breaches.push(`${name} revoked without having been assigned`);
    if (this.#busy.has(name)) this.group.breaches.push(`${name} revoked while a call was pending`);
    this.group.owners.delete(name);
    return Promise.resolve();
  }

  halted(partition: TopicPartition, reason: PositionMismatch): void {
    this.halts.set(nameOf(partition), reason);
  }

  #consume(name: PartitionName, batch: RecordBatch): void {
    const seen = this.group.records.get(name) ?? [];
    this.group.records.set(name, seen);
    this.batchSizes.push(batch.records.length);
    for (const record of batch.records) {
      const expected = this.group.positions.get(name)?.nextOffset ?? seen[0]?.offset ?? record.offset;
      if (record.offset !== expected) {
        this.group.breaches.push(`${name}: offset ${record.offset} delivered where ${expected} comes next`);
      }
      seen.push(record);
      this.group.positions.set(name, batch.positionAfter(record));
    }
  }
}

import assert from "node:assert/strict";
import { test } from "node:test";
import pino from "pino";
import type { LogRecord, PartitionBounds } from "../event-log.ts";
import type { PartitionReader, Reading } from "../partition-worker.ts";
import { FetchedPartition, type Fetching } from "./fetched-partition.ts";
import type { FetchedMessage } from "./kafka-records.ts";
import { positionAfter, type PositionSource } from "./positions.ts";

const PARTITION = { topic: "t", partition: 0 };
const CLUSTER = "cluster";

/** A log of `count` records, each appended one second after the last. */
class RecordsOfOneLog implements PositionSource {
  readonly clusterId = CLUSTER;
  readonly records: LogRecord[];
  first = 0n;

  constructor(count: number, beganMs: number) {
    this.records = Array.from({ length: count }, (_, n) => ({
      offset: BigInt(n),
      key: `${n}`,
      headers: {},
      value: new Uint8Array(0),
      appendTimeMs: beganMs + 1_000 * n,
    }));
  }

  bounds(): Promise<PartitionBounds> {
    return Promise.resolve({ first: this.first, next: BigInt(this.records.length) });
  }

  recordAt(_: unknown, offset: bigint): Promise<LogRecord | undefined> {
    return Promise.resolve(this.records[Number(offset)]);
  }

  /** As a consumer's fetch hands them over. */
  messages(...offsets: number[]): FetchedMessage[] {
    return offsets.map((offset) => ({
      key: Buffer.from(`${offset}`),
      value: Buffer.alloc(0),
      timestamp: `${this.records[offset]!.appendTimeMs}`,
      offset: `${offset}`,
      headers: {},
    }));
  }
}

/** Remembers where fetching was told to begin; undefined while it is held. */
class Fetches implements Fetching {
  readonly begun: bigint[] = [];
  at: bigint | undefined;
  #changed: () => void = () => {};

  from(_: unknown, offset: bigint): void {
    this.begun.push(offset);
    this.at = offset;
    this.#changed();
  }

  hold(): void {
    this.at = undefined;
  }

  /** Waits until fetching has begun at an offset. */
  async until(offset: bigint): Promise<void> {
    while (this.at !== offset) {
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
    }
  }
}

/** A partition whose next record is that of offset 5, read from a log. */
async function opened(log: PositionSource, stored = positionAfter(CLUSTER, beforeFive())) {
  const fetches = new Fetches();
  const dependencies = { fetching: fetches, positions: log, log: pino({ level: "silent" }) };
  const partition = new FetchedPartition(PARTITION, dependencies);
  const reader = (await partition.open(stored)) as PartitionReader;
  return { partition, reader, fetches };
}

function beforeFive(): LogRecord {
  return new RecordsOfOneLog(5, 0).records[4]!;
}

function offsetsOf(reading: Reading | undefined): readonly number[] {
  assert.ok(reading !== undefined && "records" in reading, "records are expected");
  return reading.records.map(({ offset }) => Number(offset));
}

test("a fetch begins with the record consumed last, which is not delivered again", async () => {
  const log = new RecordsOfOneLog(8, 0);
  const { partition, reader, fetches } = await opened(log);
  const next = reader.next();
  assert.equal(fetches.at, 4n);
  partition.offer(log.messages(4, 5, 6));
  assert.equal(fetches.at, undefined, "held while its handler is busy");
  assert.deepEqual(offsetsOf(await next), [5, 6]);
  const after = reader.next();
  partition.offer(log.messages(6));
  assert.equal(fetches.at, 7n, "with nothing new it waits for what comes next");
  partition.offer(log.messages(7));
  assert.deepEqual(offsetsOf(await after), [7]);
  reader.close();
});

test("what comes while nobody waits is dropped, to be fetched again", async () => {
  const log = new RecordsOfOneLog(8, 0);
  const { partition, reader } = await opened(log);
  partition.offer(log.messages(5, 6));
  const next = reader.next();
  partition.offer(log.messages(4, 5));
  assert.deepEqual(offsetsOf(await next), [5]);
  reader.close();
});

test("records of another log in the same place are not delivered", async () => {
  const log = new RecordsOfOneLog(8, 0);
  const { partition, reader } = await opened(log);
  const next = reader.next();
  const anew = new RecordsOfOneLog(8, 50_000);
  log.records.splice(0, 8, ...anew.records);
  partition.offer(anew.messages(4, 5, 6));
  const reading = await next;
  assert.ok(reading !== undefined && "mismatch" in reading);
  assert.equal(reading.mismatch.code, "log-recreated");
  reader.close();
});

test("a fetch that kafkajs began at the oldest record tells why, or is made again where the log fits", async () => {
  const log = new RecordsOfOneLog(8, 0);
  const { partition, reader, fetches } = await opened(log);
  const next = reader.next();
  partition.offer(log.messages(0, 1, 2, 3, 4, 5));
  await fetches.until(5n);
  partition.offer(log.messages(5));
  assert.deepEqual(offsetsOf(await next), [5]);
  const after = reader.next();
  log.first = 7n;
  partition.offer(log.messages(7));
  const reading = await after;
  assert.ok(reading !== undefined && "mismatch" in reading);
  assert.equal(reading.mismatch.code, "log-trimmed");
  reader.close();
});

test("records are delivered up to a hole, and a hole that stays is refused", async () => {
  const log = new RecordsOfOneLog(9, 0);
  const { partition, reader, fetches } = await opened(log);
  const next = reader.next();
  partition.offer(log.messages(4, 5, 7));
  assert.deepEqual(offsetsOf(await next), [5]);
  const after = reader.next();
  const refused = assert.rejects(after, { code: "log-corrupt" });
  for (let answers = 0; answers < 6; answers += 1) {
    partition.offer(log.messages(7, 8));
    if (answers < 5) await fetches.until(6n);
  }
  await refused;
  reader.close();
});

test("a long fetch is delivered in batches of bounded length, and fetching waits for the last of them", async () => {
  const log = new RecordsOfOneLog(12_000, 0);
  const { partition, reader, fetches } = await opened(log);
  const next = reader.next();
  partition.offer(log.messages(...Array.from({ length: 11_996 }, (_, n) => n + 4)));
  const sizes = [await next, await reader.next(), await reader.next()].map((one) => offsetsOf(one).length);
  assert.deepEqual(sizes, [5_000, 5_000, 1_995]);
  assert.equal(fetches.at, undefined);
  void reader.next();
  assert.equal(fetches.at, 11_999n);
  reader.close();
});

test("where nothing was consumed yet, a log whose oldest record is another one is begun anew", async () => {
  const log = new RecordsOfOneLog(9, 0);
  const fetches = new Fetches();
  const partition = new FetchedPartition(PARTITION, {
    fetching: fetches,
    positions: log,
    log: pino({ level: "silent" }),
  });
  const reader = (await partition.open(undefined)) as PartitionReader;
  const next = reader.next();
  assert.equal(fetches.at, 0n);
  log.first = 3n;
  const refused = assert.rejects(next, { code: "log-moved" });
  partition.offer(log.messages(2, 3));
  await refused;
  reader.close();
});

test("joining anew begins with the record consumed last again, and closing ends what waits", async () => {
  const log = new RecordsOfOneLog(5, 0);
  const { partition, reader, fetches } = await opened(log);
  const next = reader.next();
  partition.offer(log.messages(4));
  assert.deepEqual(fetches.begun, [4n, 5n]);
  partition.rejoined();
  assert.equal(fetches.at, 4n);
  reader.close();
  assert.equal(await next, undefined);
  partition.rejoined();
  assert.equal(fetches.at, undefined);
});

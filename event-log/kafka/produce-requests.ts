import type { NewRecord } from "../event-log.ts";

/** Limits of what goes to the brokers at once. */
export interface ProduceLimits {
  /** From so many bytes a partition on average, a request is compressed. */
  readonly compressFromBytes: number;
  /** Of the records of one partition in one request: the broker stores them as one batch of limited size. */
  readonly batchBytes: number;
  readonly batchRecords: number;
  /** Of one request, all partitions together. */
  readonly requestBytes: number;
}

export interface ProduceRequest {
  /** Records by topic, in the order given. */
  readonly byTopic: ReadonlyMap<string, readonly NewRecord[]>;
  /** Whether the batches are large enough to be worth packing. */
  readonly compressed: boolean;
}

/** Bytes of a record besides its texts and its value, and of a header besides its texts; at most. */
const RECORD_OVERHEAD_BYTES = 40;
const HEADER_OVERHEAD_BYTES = 10;
/** Of a UTF-16 unit in UTF-8, at most. */
const BYTES_PER_UNIT = 3;

const EMPTY = { bytes: 0, records: 0 };

/**
 * Splits an append into requests to be sent one after another, so that the order within each partition is kept. A
 * record that exceeds the limits alone gets a request to itself: whether it is too large is the broker's to say,
 * after compression.
 */
export function produceRequests(records: readonly NewRecord[], limits: ProduceLimits): ProduceRequest[] {
  const requests: ProduceRequest[] = [];
  let byTopic = new Map<string, NewRecord[]>();
  let batches = new Map<string, { bytes: number; records: number }>();
  let requestBytes = 0;
  const end = () => {
    if (byTopic.size === 0) return;
    requests.push({ byTopic, compressed: requestBytes >= limits.compressFromBytes * batches.size });
    byTopic = new Map();
    batches = new Map();
    requestBytes = 0;
  };
  for (const record of records) {
    const bytes = bytesAtMost(record);
    const name = `${record.topic}/${record.partition}`;
    let batch = batches.get(name) ?? EMPTY;
    const full =
      requestBytes + bytes > limits.requestBytes ||
      batch.bytes + bytes > limits.batchBytes ||
      batch.records >= limits.batchRecords;
    if (full) {
      end();
      batch = EMPTY;
    }
    batches.set(name, { bytes: batch.bytes + bytes, records: batch.records + 1 });
    requestBytes += bytes;
    const ofTopic = byTopic.get(record.topic);
    if (ofTopic === undefined) byTopic.set(record.topic, [record]);
    else ofTopic.push(record);
  }
  end();
  return requests;
}

/** A bound that is cheap to have: texts are not encoded for it. */
function bytesAtMost({ key, headers, value }: NewRecord): number {
  let units = key.length;
  let overhead = RECORD_OVERHEAD_BYTES;
  for (const [name, text] of Object.entries(headers)) {
    units += name.length + text.length;
    overhead += HEADER_OVERHEAD_BYTES;
  }
  return overhead + BYTES_PER_UNIT * units + value.byteLength;
}

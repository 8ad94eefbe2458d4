import type { NewRecord } from "../event-log.ts";

/** Limits of what goes to the brokers at once. */
export interface ProduceLimits {
  /** Of the records of one partition in one request: the broker stores them as one batch of limited size. */
  readonly batchBytes: number;
  readonly batchRecords: number;
  /** Of one request, all partitions together. */
  readonly requestBytes: number;
}

/** Records of one request by topic, in the order given. */
export type ProduceRequest = ReadonlyMap<string, readonly NewRecord[]>;

/** Bytes of a record besides its texts and its value, and of a header besides its texts; at most. */
const RECORD_OVERHEAD_BYTES = 40;
const HEADER_OVERHEAD_BYTES = 10;
/** Of a UTF-16 unit in UTF-8, at most. */
const BYTES_PER_UNIT = 3;

/**
 * Splits an append into requests to be sent one after another, so that the order within each partition is kept. A
 * record that exceeds the limits alone gets a request to itself: whether it is too large is the broker's to say,
 * after compression.
 */
export function produceRequests(records: readonly NewRecord[], limits: ProduceLimits): ProduceRequest[] {
  const requests: Map<string, NewRecord[]>[] = [];
  let request = new Map<string, NewRecord[]>();
  let batches = new Map<string, { bytes: number; records: number }>();
  let requestBytes = 0;
  for (const record of records) {
    const bytes = bytesAtMost(record);
    const name = `${record.topic}/${record.partition}`;
    let batch = batches.get(name) ?? { bytes: 0, records: 0 };
    const full =
      requestBytes + bytes > limits.requestBytes ||
      batch.bytes + bytes > limits.batchBytes ||
      batch.records >= limits.batchRecords;
    if (full && requestBytes > 0) {
      requests.push(request);
      request = new Map();
      batches = new Map();
      batch = { bytes: 0, records: 0 };
      requestBytes = 0;
    }
    batches.set(name, { bytes: batch.bytes + bytes, records: batch.records + 1 });
    requestBytes += bytes;
    const ofTopic = request.get(record.topic);
    if (ofTopic === undefined) request.set(record.topic, [record]);
    else ofTopic.push(record);
  }
  if (request.size > 0) requests.push(request);
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

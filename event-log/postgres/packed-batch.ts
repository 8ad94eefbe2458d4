import { crc32 } from "node:zlib";
import { GridrootError } from "../../service/errors.ts";
import type { LogRecord, NewRecord } from "../event-log.ts";

/**
 * The bytes of one stored batch. Numbers are little-endian; `uvarint` is LEB128 of at most 32 bits; texts are UTF-8.
 *
 *     u8       format, 1
 *     u32      CRC-32 of everything after it
 *     uvarint  number of header names, then each: uvarint length, text
 *     then per record:
 *       uvarint  key length, key
 *       uvarint  number of headers, then each: uvarint index of its name, uvarint length, text
 *       uvarint  value length, value
 *
 * Base offset, record count and append time are columns beside it. Header names are written once for a batch,
 * because all records of a topic carry the same few.
 */
const FORMAT = 1;
const CRC_AT = 1;
const BODY_AT = 5;
const MAX_UVARINT_BYTES = 5;

/** Bytes a record takes at most, beside its header names. */
function sizeBound(record: NewRecord): number {
  let bytes = 3 * record.key.length + record.value.length + 3 * MAX_UVARINT_BYTES;
  for (const name in record.headers) {
    bytes += 3 * (record.headers[name] as string).length + 2 * MAX_UVARINT_BYTES;
  }
  return bytes;
}

/** A packed batch on its way to the log. */
export interface PackedBatch {
  readonly recordCount: number;
  readonly bytes: Buffer;
}

/**
 * Packs records of one partition, in order, into batches of at most `maxRecords` records and about `maxBytes`
 * bytes; a larger record has a batch of its own.
 */
export function packBatches(
  records: readonly NewRecord[],
  maxRecords: number,
  maxBytes: number,
): readonly PackedBatch[] {
  const batches: PackedBatch[] = [];
  let from = 0;
  while (from < records.length) {
    let to = from;
    let bound = 0;
    while (to < records.length && to - from < maxRecords) {
      const size = sizeBound(records[to]!);
      if (to > from && bound + size > maxBytes) break;
      bound += size;
      to += 1;
    }
    batches.push({ recordCount: to - from, bytes: pack(records.slice(from, to), bound) });
    from = to;
  }
  return batches;
}

function pack(records: readonly NewRecord[], recordBytes: number): Buffer {
  const names = new Map<string, number>();
  let nameBytes = MAX_UVARINT_BYTES;
  for (const record of records) {
    for (const name in record.headers) {
      if (names.has(name)) continue;
      names.set(name, names.size);
      nameBytes += 3 * name.length + MAX_UVARINT_BYTES;
    }
  }
  const bytes = Buffer.allocUnsafe(BODY_AT + nameBytes + recordBytes);
  let at = writeUvarint(bytes, BODY_AT, names.size);
  for (const name of names.keys()) at = writeText(bytes, at, name);
  for (const record of records) at = writeRecord(bytes, at, record, names);
  bytes[0] = FORMAT;
  bytes.writeUInt32LE(crc32(bytes.subarray(BODY_AT, at)), CRC_AT);
  return bytes.subarray(0, at);
}

function writeRecord(
  bytes: Buffer,
  start: number,
  record: NewRecord,
  names: ReadonlyMap<string, number>,
): number {
  let at = writeText(bytes, start, record.key);
  const headers = Object.entries(record.headers);
  at = writeUvarint(bytes, at, headers.length);
  for (const [name, text] of headers) {
    at = writeUvarint(bytes, at, names.get(name) as number);
    at = writeText(bytes, at, text);
  }
  at = writeUvarint(bytes, at, record.value.length);
  bytes.set(record.value, at);
  return at + record.value.length;
}

function writeText(bytes: Buffer, at: number, text: string): number {
  // One byte of length holds for nearly every text; where it does not, the exact length is known first.
  if (text.length < 42) {
    const written = bytes.write(text, at + 1, "utf8");
    bytes[at] = written;
    return at + 1 + written;
  }
  const next = writeUvarint(bytes, at, Buffer.byteLength(text, "utf8"));
  return next + bytes.write(text, next, "utf8");
}

function writeUvarint(bytes: Buffer, start: number, value: number): number {
  let at = start;
  let rest = value;
  while (rest > 0x7f) {
    bytes[at] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
    at += 1;
  }
  bytes[at] = rest;
  return at + 1;
}

/** A batch as stored. */
export interface StoredBatch {
  readonly baseOffset: bigint;
  readonly recordCount: number;
  readonly appendTimeMs: number;
  readonly bytes: Buffer;
}

/**
 * The records of a stored batch from offset `from` on. Values are views of the batch's bytes. Throws `log-corrupt`
 * where the bytes are not those that were appended.
 */
export function unpackBatch(batch: StoredBatch, from: bigint): LogRecord[] {
  const { bytes, baseOffset, recordCount, appendTimeMs } = batch;
  const body = bytes.subarray(BODY_AT);
  if (bytes.length < BODY_AT || bytes[0] !== FORMAT || bytes.readUInt32LE(CRC_AT) !== crc32(body)) {
    throw new GridrootError("log-corrupt", `batch at offset ${baseOffset} is not as it was appended`);
  }
  const reader = new Reader(body);
  const names = Array.from({ length: reader.uvarint() }, () => reader.text());
  const skipped = from > baseOffset ? Number(from - baseOffset) : 0;
  const records: LogRecord[] = [];
  for (let index = 0; index < recordCount; index += 1) {
    const key = reader.text();
    const headers = reader.headers(names);
    const value = reader.value();
    if (index >= skipped) {
      records.push({ offset: baseOffset + BigInt(index), key, headers, value, appendTimeMs });
    }
  }
  if (!reader.atEnd) {
    throw new GridrootError(
      "log-corrupt",
      `batch at offset ${baseOffset} holds more than ${recordCount} records`,
    );
  }
  return records;
}

class Reader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get atEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  uvarint(): number {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = this.#bytes[this.#at] ?? 0;
      this.#at += 1;
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value >>> 0;
    }
  }

  text(): string {
    const end = this.uvarint() + this.#at;
    const text = this.#bytes.toString("utf8", this.#at, end);
    this.#at = end;
    return text;
  }

  value(): Uint8Array {
    const end = this.uvarint() + this.#at;
    const value = this.#bytes.subarray(this.#at, end);
    this.#at = end;
    return value;
  }

  headers(names: readonly string[]): Record<string, string> {
    const headers: Record<string, string> = {};
    for (let count = this.uvarint(); count > 0; count -= 1) {
      const name = names[this.uvarint()] as string;
      const text = this.text();
      // Assigning to this one name would set the prototype instead.
      if (name === "__proto__") Object.defineProperty(headers, name, { value: text, enumerable: true });
      else headers[name] = text;
    }
    return headers;
  }
}

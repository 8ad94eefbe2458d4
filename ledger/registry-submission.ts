import { decodeRegistryRecord, encodeRegistryRecord } from "../domain/metering/registry-codec.ts";
import type { RegistryRecord } from "../domain/metering/registry-records.ts";
import { type EventLog, type NewRecord, partitionOf } from "../event-log/event-log.ts";
import { KIND_HEADER, REGISTRY_KIND, regionTopic } from "../event-log/topics.ts";
import type { Pool } from "../service/database.ts";
import { GridrootError } from "../service/errors.ts";

export interface RegistrySubmission {
  readonly eventLog: EventLog;
  /** The ledger. */
  readonly pool: Pool;
  readonly partitionsPerRegion: number;
  /** How long to wait for the projection; 30 s unless told otherwise. */
  readonly timeoutMs?: number;
}

const FIRST_LOOK_MS = 5;
const LONGEST_PAUSE_MS = 200;

/** Writes one registry record, see `submitRegistryRecords`. */
export function submitRegistryRecord(
  submission: RegistrySubmission,
  region: string,
  record: RegistryRecord,
): Promise<void> {
  return submitRegistryRecords(submission, region, [record]);
}

/**
 * Writes registry records to a region's topic, in order within each service point, and waits until the aggregator
 * has projected them. Idempotent by record id: a record written twice takes effect once.
 *
 * Rejects with `registry-record-malformed` before anything is written where a field of one is out of range, with
 * `registry-record-refused` where one was refused (the others took effect), and with `registry-not-projected`, which
 * is retryable, where no aggregator came to it in time: the records are in the log and take effect later.
 */
export async function submitRegistryRecords(
  submission: RegistrySubmission,
  region: string,
  records: readonly RegistryRecord[],
): Promise<void> {
  if (records.length === 0) return;
  await append(submission, region, records);
  const refusals = await projected(
    submission,
    records.map((record) => record.id),
  );
  const refused = refusals.find(({ refused }) => refused !== null);
  if (refused !== undefined) {
    throw new GridrootError("registry-record-refused", `record ${refused.record_id}: ${refused.refused}`);
  }
}

async function append(
  { eventLog, partitionsPerRegion }: RegistrySubmission,
  region: string,
  records: readonly RegistryRecord[],
): Promise<void> {
  const values = records.map(encodeReadable);
  const appender = await eventLog.openAppender();
  try {
    await appender.append(
      records.map((record, index): NewRecord => ({
        topic: regionTopic(region),
        partition: partitionOf(record.servicePoint, partitionsPerRegion),
        key: record.type === "commission" ? record.device.meterId : record.meterId,
        headers: { [KIND_HEADER]: REGISTRY_KIND },
        value: values[index]!,
      })),
    );
  } finally {
    await appender.close();
  }
}

/** The record's bytes. Nobody could read those of a field out of range, nor ever say what became of them. */
function encodeReadable(record: RegistryRecord): Uint8Array {
  const bytes = encodeRegistryRecord(record);
  const decoded = decodeRegistryRecord(bytes);
  if (!decoded.ok) {
    throw new GridrootError("registry-record-malformed", `record ${record.id}: ${decoded.detail}`);
  }
  return bytes;
}

interface Projected {
  readonly record_id: string;
  readonly refused: string | null;
}

async function projected(
  { pool, timeoutMs = 30_000 }: RegistrySubmission,
  ids: readonly string[],
): Promise<readonly Projected[]> {
  const distinct = new Set(ids).size;
  const giveUpAt = performance.now() + timeoutMs;
  for (let pauseMs = FIRST_LOOK_MS; ; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
    const found = await pool.query<Projected>(
      "select record_id, refused from ledger.registry_record where record_id = any($1)",
      [ids],
    );
    if (found.rows.length === distinct) return found.rows;
    if (performance.now() > giveUpAt) {
      throw new GridrootError(
        "registry-not-projected",
        `${distinct - found.rows.length} registry records wait for an aggregator`,
        { retryable: true },
      );
    }
    await new Promise((resume) => setTimeout(resume, pauseMs));
  }
}

import type { Queryable } from "../service/database.ts";

/** Where a quarantined reading lies in the log. */
export interface QuarantineKey {
  readonly topic: string;
  readonly partition: number;
  readonly offset: bigint;
  /** Position in the record's array. */
  readonly index: number;
}

/** A reading that validation set aside; its bytes are in the log. */
export interface QuarantinedReading extends QuarantineKey {
  readonly meterId: string;
  readonly epoch: number;
  readonly seq: number;
  /** Unix seconds by the meter's clock. */
  readonly t: number;
  /** Reason code. */
  readonly reason: string;
}

interface Row {
  topic: string;
  partition: number;
  log_offset: bigint;
  index: number;
  meter_id: string;
  epoch: number;
  seq: bigint;
  t: bigint;
  reason: string;
}

/** Quarantined readings in the log's order after `after`, of one topic or meter or of all; at most `limit`. */
export async function listQuarantine(
  db: Queryable,
  page: {
    readonly topic?: string | undefined;
    readonly meterId?: string | undefined;
    readonly after?: QuarantineKey | undefined;
    readonly limit: number;
  },
): Promise<readonly QuarantinedReading[]> {
  const result = await db.query<Row>(
    `select * from ledger.quarantine
      where ($1::text is null or topic = $1) and ($2::text is null or meter_id = $2)
        and (topic, partition, log_offset, index) > ($3, $4, $5, $6)
      order by topic, partition, log_offset, index limit $7`,
    [
      page.topic ?? null,
      page.meterId ?? null,
      page.after?.topic ?? "",
      page.after?.partition ?? -1,
      page.after?.offset ?? -1n,
      page.after?.index ?? -1,
      page.limit,
    ],
  );
  return result.rows.map(toReading);
}

/** The newest quarantined readings by their meters' time, of one meter or of all, oldest first; at most `limit`. */
export async function newestQuarantined(
  db: Queryable,
  page: { readonly meterId?: string | undefined; readonly limit: number },
): Promise<readonly QuarantinedReading[]> {
  const result = await db.query<Row>(
    `select * from ledger.quarantine where $1::text is null or meter_id = $1
      order by t desc, topic, partition, log_offset, index limit $2`,
    [page.meterId ?? null, page.limit],
  );
  return result.rows.map(toReading).toReversed();
}

function toReading(row: Row): QuarantinedReading {
  return {
    topic: row.topic,
    partition: row.partition,
    offset: row.log_offset,
    index: row.index,
    meterId: row.meter_id,
    epoch: row.epoch,
    seq: Number(row.seq),
    t: Number(row.t),
    reason: row.reason,
  };
}

import type { Pool, Queryable } from "../../service/database.ts";
import { assertRetention } from "../retention.ts";
import type { SeriesRetention } from "../time-series.ts";
import { PARTS, type InfluxBuckets, type Part } from "./influx-buckets.ts";

const DAY_S = 86_400;

/** Up to which instant each part has expired, unix seconds. */
export type ExpiredUntil = Readonly<Record<Part, number>>;

/** How far the series has expired, as all its processes see it. */
export async function readExpired(db: Queryable): Promise<ExpiredUntil> {
  const result = await db.query<{ part: Part; until_t: bigint }>(
    "select part, until_t from series_marks.expired",
  );
  const until = new Map(result.rows.map((row) => [row.part, Number(row.until_t)]));
  return Object.fromEntries(PARTS.map((part) => [part, until.get(part) ?? 0])) as Record<Part, number>;
}

/**
 * Expires what is older than its retention at `nowS`, by whole days, so that no bucket is cut in two. Throws
 * `series-retention`, see `assertRetention`. Idempotent; one that was interrupted is completed by the next.
 *
 * The cutoff is recorded before anything is deleted: who has read points that may have been deleted meanwhile asks for
 * it before using them, and who writes points learns afterwards whether they had expired.
 */
export async function expireSeries(
  pool: Pool,
  buckets: InfluxBuckets,
  retention: SeriesRetention,
  nowS: number,
): Promise<void> {
  assertRetention(retention);
  const keptS: Readonly<Record<Part, number>> = {
    raw: retention.rawS,
    "15m": retention.bucketS[900],
    "1h": retention.bucketS[3600],
    "1d": retention.bucketS[86400],
  };
  for (const part of PARTS) {
    const cutoff = Math.max(0, Math.floor((nowS - keptS[part]) / DAY_S) * DAY_S);
    const { until, deletedUntil } = await recordCutoff(pool, part, cutoff);
    await buckets.keep(part, keptS[part], nowS);
    if (deletedUntil >= until) continue;
    await buckets.deleteUntil(part, until);
    await pool.query(
      "update series_marks.expired set deleted_until_t = greatest(deleted_until_t, $2) where part = $1",
      [part, until],
    );
    if (part === "raw") await pool.query("delete from series_marks.wide_seq where t <= $1", [until]);
  }
}

/** A cutoff never goes back. */
async function recordCutoff(
  pool: Pool,
  part: Part,
  cutoff: number,
): Promise<{ until: number; deletedUntil: number }> {
  const result = await pool.query<{ until_t: bigint; deleted_until_t: bigint }>(
    `update series_marks.expired set until_t = greatest(until_t, $2) where part = $1
     returning until_t, deleted_until_t`,
    [part, cutoff],
  );
  const row = result.rows[0]!;
  return { until: Number(row.until_t), deletedUntil: Number(row.deleted_until_t) };
}

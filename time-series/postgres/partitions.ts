import { inTransaction, type Connection, type Pool } from "../../service/database.ts";
import { assertRetention } from "../retention.ts";
import type { ResolutionS, SeriesRetention } from "../time-series.ts";

const DAY_S = 86_400;

/** Tables cut into partitions, and how many seconds one of them spans. */
const WIDTHS_S = {
  point: DAY_S,
  bucket_900: DAY_S,
  bucket_3600: 30 * DAY_S,
  bucket_86400: 360 * DAY_S,
} as const;
type Table = keyof typeof WIDTHS_S;
const TABLES = Object.keys(WIDTHS_S) as Table[];

/** A waiting drop holds up every reader and writer behind it, so it gives up soon and comes again. */
const DROP_LOCK_TIMEOUT = "2s";

/** The table of a resolution's buckets, with its schema. */
export function bucketTable(resolutionS: ResolutionS): string {
  return `series.bucket_${resolutionS}`;
}

/**
 * The partitions of the series: made on demand, dropped whole. Partition k of a table spans
 * (k x width, (k + 1) x width], whose integers are PostgreSQL's [from + 1, to + 1).
 */
export class Partitions {
  readonly #pool: Pool;
  readonly #known = new Set<string>();
  #expiredUntil = 0;

  constructor(pool: Pool) {
    this.#pool = pool;
  }

  /** Raw points at or before this instant have expired, as far as this process knows. */
  get expiredUntil(): number {
    return this.#expiredUntil;
  }

  /** Forgets what this process knows: another one may have dropped partitions. */
  forget(): void {
    this.#known.clear();
  }

  /** Makes what points at these instants need, raw and rolled up. Instants that have expired get nothing. */
  async ensure(instants: readonly number[]): Promise<void> {
    // All partitions begin and end with a day, so the ends of the days stand for the instants.
    const days = new Set(instants.map((t) => Math.ceil(t / DAY_S) * DAY_S));
    const missing = new Map<string, { table: Table; index: number; dayEnd: number }>();
    for (const dayEnd of days) {
      for (const table of TABLES) {
        const index = Math.ceil(dayEnd / WIDTHS_S[table]) - 1;
        const name = `${table}_${index}`;
        if (!this.#known.has(name)) missing.set(name, { table, index, dayEnd });
      }
    }
    if (missing.size === 0) return;
    await inTransaction(this.#pool, async (connection) => {
      this.#expiredUntil = await lockPartitions(connection);
      for (const [name, { table, index, dayEnd }] of missing) {
        if (dayEnd > this.#expiredUntil) await createPartition(connection, name, table, index);
      }
    });
    for (const [name, { dayEnd }] of missing) if (dayEnd > this.#expiredUntil) this.#known.add(name);
  }

  /**
   * Drops the partitions that have wholly expired at `nowS`; rejects, and has done nothing, where a lock cannot be
   * had soon. Throws `series-retention`, see `assertRetention`.
   */
  async expire(retention: SeriesRetention, nowS: number): Promise<void> {
    assertRetention(retention);
    const keepS: Record<Table, number> = {
      point: retention.rawS,
      bucket_900: retention.bucketS[900],
      bucket_3600: retention.bucketS[3600],
      bucket_86400: retention.bucketS[86400],
    };
    await inTransaction(this.#pool, async (connection) => {
      const before = await lockPartitions(connection);
      await connection.query(`set local lock_timeout = '${DROP_LOCK_TIMEOUT}'`);
      for (const table of TABLES) await dropExpired(connection, table, nowS - keepS[table]);
      const until = Math.max(before, wholeDays(nowS - keepS.point));
      await connection.query("update series.expired set until_t = $1", [until]);
      await connection.query("delete from series.completeness where bucket_end <= $1", [
        wholeDays(nowS - keepS.bucket_900),
      ]);
      this.#expiredUntil = until;
    });
    this.forget();
  }
}

/** Serialises makers and droppers of partitions until the transaction ends; returns how far raw has expired. */
async function lockPartitions(connection: Connection): Promise<number> {
  await connection.query("select pg_advisory_xact_lock(hashtext('series partitions'))");
  const result = await connection.query<{ until_t: bigint }>("select until_t from series.expired");
  return Number(result.rows[0]!.until_t);
}

/**
 * A table of its own is made and then attached: `create table ... partition of` would lock out every reader and
 * writer of the parent, `attach partition` locks out none.
 */
async function createPartition(
  connection: Connection,
  name: string,
  table: Table,
  index: number,
): Promise<void> {
  const found = await connection.query("select to_regclass($1) as table", [`series.${name}`]);
  if (found.rows[0].table !== null) return;
  const from = index * WIDTHS_S[table] + 1;
  await connection.query(`create table series.${name} (like series.${table} including all)`);
  await connection.query(
    `alter table series.${table} attach partition series.${name} for values from (${from}) to (${from + WIDTHS_S[table]})`,
  );
}

async function dropExpired(connection: Connection, table: Table, until: number): Promise<void> {
  const partitions = await connection.query<{ name: string }>(
    `select c.relname as name from pg_inherits i join pg_class c on c.oid = i.inhrelid
      where i.inhparent = $1::regclass order by 1`,
    [`series.${table}`],
  );
  for (const { name } of partitions.rows) {
    const end = (Number(name.slice(table.length + 1)) + 1) * WIDTHS_S[table];
    if (end <= until) await connection.query(`drop table series.${name}`);
  }
}

function wholeDays(t: number): number {
  return Math.floor(t / DAY_S) * DAY_S;
}

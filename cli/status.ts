import type { EventLog } from "../event-log/event-log.ts";
import { regionTopic } from "../event-log/topics.ts";
import { storedOffsets } from "../ledger/consumer-offsets.ts";
import type { Pool } from "../service/database.ts";
import { recorderBalance } from "../time-series/recorder-balance.ts";
import type { Context } from "./context.ts";
import { describeReplica } from "./replica.ts";
import { withStores } from "./stores.ts";
import { isoInstant } from "./times.ts";

interface RegionStatus {
  readonly region: string;
  readonly records: string;
  readonly recorderLag: string;
  readonly aggregatorLag: string;
  readonly meters: string;
  readonly sealedUntil: string;
  readonly batches: string;
  readonly settled: string;
  readonly quarantined: string;
}

interface LedgerRow {
  name: string;
  sealed_until: bigint | null;
  meters: bigint;
  batches: bigint;
  settled: bigint;
}

/**
 * Prints where each region stands, from the log's and the ledger's own figures. False where the recorder's account of
 * the log does not add up.
 */
export async function status(context: Context, flags: { json?: boolean }): Promise<boolean> {
  return withStores(context, async ({ ledger, eventLog }) => {
    const regions = await regionRows(ledger);
    const rows = await Promise.all(regions.map((row) => regionStatus(context, ledger, eventLog, row)));
    const gaps = await recorderBalance(ledger);
    const replica = await describeReplica(context.settings, ledger);
    if (flags.json === true) context.print(JSON.stringify({ regions: rows, gaps, replica }, bigintAsText));
    else {
      for (const line of table(rows as unknown as readonly Record<string, string>[])) context.print(line);
      for (const gap of gaps) context.print(`GAP ${JSON.stringify(gap, bigintAsText)}`);
      if (replica !== undefined) context.print(`replica: ${replica}`);
    }
    return gaps.length === 0;
  });
}

function bigintAsText(_key: string, value: unknown): unknown {
  return typeof value === "bigint" ? value.toString() : value;
}

async function regionRows(ledger: Pool): Promise<readonly LedgerRow[]> {
  const result = await ledger.query<LedgerRow>(
    `select r.name, r.sealed_until,
            (select count(*) from ledger.meter m where m.region_id = r.region_id and m.retired_at is null) as meters,
            (select count(*) from ledger.batch b where b.region_id = r.region_id and b.voided_ms is null) as batches,
            (select count(*) from ledger.settlement s where s.region_id = r.region_id and s.state in ('final', 'settled-externally')) as settled
       from ledger.region r order by r.region_id`,
  );
  return result.rows;
}

async function regionStatus(
  context: Context,
  ledger: Pool,
  eventLog: EventLog,
  row: LedgerRow,
): Promise<RegionStatus> {
  const topic = regionTopic(row.name);
  const partitions = Array.from(
    { length: context.settings.partitionsPerRegion },
    (_, partition) => partition,
  );
  const heads = await Promise.all(
    partitions.map(async (partition) => (await eventLog.bounds({ topic, partition })).next),
  );
  const records = heads.reduce((sum, next) => sum + next, 0n);
  const stored = await storedOffsets(ledger, topic);
  const lag = (consumer: string) =>
    records -
    stored.filter((one) => one.consumer === consumer).reduce((sum, one) => sum + one.nextOffset, 0n);
  const quarantined = await ledger.query<{ n: bigint }>(
    "select count(*) as n from ledger.quarantine where topic = $1",
    [topic],
  );
  return {
    region: row.name,
    records: String(records),
    recorderLag: String(lag("recorder")),
    aggregatorLag: String(lag("aggregator")),
    meters: String(row.meters),
    sealedUntil: row.sealed_until === null ? "-" : isoInstant(Number(row.sealed_until)),
    batches: String(row.batches),
    settled: String(row.settled),
    quarantined: String(quarantined.rows[0]?.n ?? 0n),
  };
}

/** Rows as lines of aligned columns under their keys. */
export function table(rows: readonly Readonly<Record<string, string>>[]): readonly string[] {
  const columns = Object.keys(rows[0] ?? {});
  const cells = [columns, ...rows.map((row) => columns.map((column) => row[column] ?? ""))];
  const widths = columns.map((_, index) => Math.max(...cells.map((line) => (line[index] ?? "").length)));
  return cells.map((line) =>
    line
      .map((cell, index) => (index === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[index] ?? 0)))
      .join("  "),
  );
}

import { DEAD_LETTER_TOPIC, INGEST_HEADERS } from "../event-log/topics.ts";
import type { Context } from "./context.ts";
import { newestRecords } from "./log-tail.ts";
import { withStores } from "./stores.ts";

interface DeadLetterFlags {
  readonly records: number;
  readonly meter?: string;
  readonly payload?: boolean;
}

interface QuarantineRow {
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

/**
 * Prints what did not become credit, a JSON object a line: dead letters, which never entered a region's log, and
 * quarantined readings, which did but which validation set aside.
 */
export async function deadLetters(context: Context, flags: DeadLetterFlags): Promise<void> {
  await withStores(context, async ({ eventLog, ledger }) => {
    const scanned = flags.meter === undefined ? flags.records : 100_000;
    const letters = (await newestRecords(eventLog, { topic: DEAD_LETTER_TOPIC, partition: 0 }, scanned))
      .filter(
        ({ record }) => flags.meter === undefined || record.headers[INGEST_HEADERS.client] === flags.meter,
      )
      .slice(-flags.records);
    for (const { record } of letters) {
      context.print(
        JSON.stringify({
          kind: "dead-letter",
          offset: record.offset.toString(),
          appendTime: new Date(record.appendTimeMs).toISOString(),
          headers: record.headers,
          bytes: record.value.length,
          ...(flags.payload === true ? { payloadBase64: Buffer.from(record.value).toString("base64") } : {}),
        }),
      );
    }
    const quarantined = await ledger.query<QuarantineRow>(
      `select * from (
         select * from quarantine where $1::text is null or meter_id = $1 order by t desc, topic, log_offset limit $2
       ) newest order by t, topic, log_offset`,
      [flags.meter ?? null, flags.records],
    );
    for (const row of quarantined.rows) {
      context.print(
        JSON.stringify({
          kind: "quarantined",
          topic: row.topic,
          partition: row.partition,
          offset: row.log_offset.toString(),
          index: row.index,
          meterId: row.meter_id,
          epoch: row.epoch,
          seq: row.seq.toString(),
          t: new Date(Number(row.t) * 1000).toISOString(),
          reason: row.reason,
        }),
      );
    }
  });
}

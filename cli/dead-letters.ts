import { DEAD_LETTER_TOPIC, INGEST_HEADERS } from "../event-log/topics.ts";
import { newestQuarantined } from "../ledger/quarantine.ts";
import type { Context } from "./context.ts";
import { newestRecords } from "./log-tail.ts";
import { withStores } from "./stores.ts";
import { isoInstant } from "./times.ts";

interface DeadLetterFlags {
  readonly records: number;
  readonly meter?: string;
  readonly payload?: boolean;
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
    for (const reading of await newestQuarantined(ledger, { meterId: flags.meter, limit: flags.records })) {
      context.print(
        JSON.stringify({
          kind: "quarantined",
          ...reading,
          offset: reading.offset.toString(),
          t: isoInstant(reading.t),
        }),
      );
    }
  });
}

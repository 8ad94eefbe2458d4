import type { EventLog, LogRecord, TopicPartition } from "../event-log/event-log.ts";
import { DEAD_LETTER_TOPIC, regionTopic } from "../event-log/topics.ts";
import { systemClock } from "../service/clock.ts";
import { GridrootError } from "../service/errors.ts";
import type { Context } from "./context.ts";
import { withStores } from "./stores.ts";

const POLL_MS = 250;
const PAGE = 500;

/** Prints the newest records of a region's topic or of the dead letters, a JSON object a line, and may go on. */
export async function tailLog(
  context: Context,
  name: string,
  flags: { records: number; follow?: boolean },
): Promise<void> {
  const partitions = partitionsOf(context, name);
  await withStores(context, async ({ eventLog }) => {
    const newest = (
      await Promise.all(partitions.map((one) => newestRecords(eventLog, one, flags.records)))
    ).flat();
    newest.sort((a, b) => a.record.appendTimeMs - b.record.appendTimeMs);
    for (const { from, record } of newest.slice(-flags.records))
      context.print(JSON.stringify(shown(from, record)));
    if (flags.follow === true) await follow(context, eventLog, partitions);
  });
}

/** The partitions of a region's topic, or of the dead letters. Throws `argument-invalid`. */
export function partitionsOf(context: Context, name: string): readonly TopicPartition[] {
  if (name === DEAD_LETTER_TOPIC) return [{ topic: DEAD_LETTER_TOPIC, partition: 0 }];
  if (!context.grid.regions.some((region) => region.name === name)) {
    throw new GridrootError(
      "argument-invalid",
      `${name} is no region of the grid file, nor ${DEAD_LETTER_TOPIC}`,
    );
  }
  return Array.from({ length: context.settings.partitionsPerRegion }, (_, partition) => ({
    topic: regionTopic(name),
    partition,
  }));
}

/** The newest `count` records of a partition, oldest first. */
export async function newestRecords(
  eventLog: EventLog,
  from: TopicPartition,
  count: number,
): Promise<readonly { from: TopicPartition; record: LogRecord }[]> {
  const { first, next } = await eventLog.bounds(from);
  const wanted = next - BigInt(count);
  const records: { from: TopicPartition; record: LogRecord }[] = [];
  for (let offset = wanted > first ? wanted : first; offset < next;) {
    const page = await eventLog.read(from, offset, PAGE);
    records.push(...page.map((record) => ({ from, record })));
    const last = page.at(-1);
    if (last === undefined) break;
    offset = last.offset + 1n;
  }
  return records.slice(-count);
}

async function follow(
  context: Context,
  eventLog: EventLog,
  partitions: readonly TopicPartition[],
): Promise<void> {
  const positions = await Promise.all(
    partitions.map(async (from) => ({ from, next: (await eventLog.bounds(from)).next })),
  );
  const ending = new AbortController();
  process.once("SIGINT", () => ending.abort());
  while (!ending.signal.aborted) {
    for (const position of positions) {
      for (const record of await eventLog.read(position.from, position.next, PAGE)) {
        context.print(JSON.stringify(shown(position.from, record)));
        position.next = record.offset + 1n;
      }
    }
    await new Promise((done) => setTimeout(done, POLL_MS));
  }
}

function shown(from: TopicPartition, record: LogRecord): Record<string, unknown> {
  return {
    topic: from.topic,
    partition: from.partition,
    offset: record.offset.toString(),
    appendTime: new Date(record.appendTimeMs).toISOString(),
    ageMs: systemClock.nowMs() - record.appendTimeMs,
    key: record.key,
    headers: record.headers,
    value: asText(record.value),
  };
}

/** A payload as text where it is UTF-8, in base64 where it is not. */
export function asText(value: Uint8Array): string | { base64: string } {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(value);
  } catch {
    return { base64: Buffer.from(value).toString("base64") };
  }
}

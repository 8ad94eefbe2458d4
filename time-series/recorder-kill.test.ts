import assert from "node:assert/strict";
import { fork, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { after, test } from "node:test";
import fc from "fast-check";
import { pino } from "pino";
import { encodeReadings } from "../domain/metering/codec.ts";
import { wh } from "../domain/metering/units.ts";
import type { NewRecord } from "../event-log/event-log.ts";
import { PostgresEventLog } from "../event-log/postgres/postgres-event-log.ts";
import { DEAD_LETTER_TOPIC, INGEST_HEADERS, regionTopic } from "../event-log/topics.ts";
import { openPool } from "../service/database.ts";
import { migrate } from "../service/migrate.ts";
import { createTestDatabase } from "../tests/support/postgres.ts";
import { until } from "../tests/support/until.ts";
import { PostgresTimeSeries } from "./postgres/postgres-time-series.ts";
import { RECORDER, recorderBalance } from "./recorder-balance.ts";
import { RECORDER_FAULT_POINTS } from "./recorder.ts";

const log = pino({ level: "silent" });
const DAY = 20_500 * 86_400;
const PARTITIONS = 2;
const RECORDS = 500;
const program = new URL("tests/recorder-program.ts", import.meta.url);

const url = await createTestDatabase();
const pool = openPool(
  { connectionString: url, applicationName: "test", maxConnections: 4, schema: "ledger" },
  () => {},
);
await migrate(pool, "ledger", new URL("../ledger/migrations/", import.meta.url));
const eventLog = await PostgresEventLog.open({ connectionString: url }, { log });
const series = await PostgresTimeSeries.open({ connectionString: url }, { log });
await eventLog.ensureTopics([{ topic: DEAD_LETTER_TOPIC, partitions: 1 }]);
const children = new Set<ChildProcess>();
after(async () => {
  for (const child of children) child.kill("SIGKILL");
  await eventLog.close();
  await series.close();
  await pool.end();
});

function startChild(region: string, fault: string): ChildProcess {
  const child = fork(program, [url, region, fault]);
  children.add(child);
  child.once("exit", () => children.delete(child));
  return child;
}

/** Good readings, some of them delivered twice, with unreadable ones and other kinds between. */
function recordsOf(region: string): NewRecord[] {
  return Array.from({ length: RECORDS }, (_, i) => {
    const meterId = `${region}-${i % 7}`;
    const seq = i % 10 === 9 ? i - 7 : i;
    const good = { meterId, epoch: 0, seq, t: DAY + seq, importWh: wh(seq), exportWh: wh(0), status: 0 };
    const kind = i % 25 === 3 ? "ev" : "rd";
    const value = i % 25 === 5 ? new TextEncoder().encode("[]") : encodeReadings([good]);
    const partition = (i % 7) % PARTITIONS;
    return {
      topic: regionTopic(region),
      partition,
      key: meterId,
      headers: { [INGEST_HEADERS.kind]: kind },
      value,
    };
  });
}

interface Totals {
  next: bigint;
  written: bigint;
  rejected: bigint;
  other: bigint;
}

async function totals(region: string): Promise<Totals> {
  const result = await pool.query<Totals>(
    `select coalesce(sum(next_offset), 0)::bigint as next, coalesce(sum(written), 0)::bigint as written,
            coalesce(sum(rejected), 0)::bigint as rejected, coalesce(sum(other_kinds), 0)::bigint as other
       from consumer_offset where consumer = $1 and topic = $2`,
    [RECORDER, regionTopic(region)],
  );
  return result.rows[0]!;
}

for (const seed of [1, 2]) {
  test(`kill -9 at every fault point loses no reading and counts none twice (seed ${seed})`, async () => {
    const region = `region-${seed}`;
    await eventLog.ensureTopics([{ topic: regionTopic(region), partitions: PARTITIONS }]);
    const records = recordsOf(region);
    await (await eventLog.openAppender()).append(records);

    const [order] = fc.sample(
      fc.tuple(
        fc.shuffledSubarray([...RECORDER_FAULT_POINTS], { minLength: RECORDER_FAULT_POINTS.length }),
        fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 5, maxLength: 5 }),
      ),
      { seed, numRuns: 1 },
    );
    for (const [i, point] of order![0].entries()) {
      const child = startChild(region, `${point}:${order![1][i]}`);
      const [, signal] = (await once(child, "exit")) as [number | null, string | null];
      assert.equal(signal, "SIGKILL", `the recorder passed ${point}`);
      assert.deepEqual(await recorderBalance(pool), [], `after ${point}`);
    }

    const last = startChild(region, "");
    await until("all is recorded", async () => (await totals(region)).next === BigInt(RECORDS), 20_000);
    last.kill("SIGTERM");
    assert.deepEqual(await once(last, "exit"), [0, null]);

    const kinds = records.map((record, i) =>
      record.headers["kind"] === "ev" ? "other" : i % 25 === 5 ? "rejected" : "written",
    );
    const count = (kind: string) => BigInt(kinds.filter((one) => one === kind).length);
    assert.deepEqual(await totals(region), {
      next: BigInt(RECORDS),
      written: count("written"),
      rejected: count("rejected"),
      other: count("other"),
    });
    const identities = new Set(
      records
        .filter((_, i) => kinds[i] === "written")
        .map((record) => new TextDecoder().decode(record.value)),
    );
    assert.equal(await series.countReadings(region), BigInt(identities.size));
  });
}

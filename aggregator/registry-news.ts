import type { Logger } from "pino";
import type { RegistryRecord } from "../domain/metering/registry-records.ts";
import type { LogRecord } from "../event-log/event-log.ts";
import { KIND_HEADER, REGISTRY_KIND } from "../event-log/topics.ts";
import { REGISTRY_CHANNEL } from "../ledger/meters.ts";
import { findKnown } from "../ledger/registry.ts";
import type { Pool } from "../service/database.ts";
import { parseLogRecord } from "./log-records.ts";
import type { KnownIds } from "./partition-memory.ts";

/** What the registry knows of the ids that registry records among `records` mention. */
export async function knownIds(pool: Pool, records: readonly LogRecord[]): Promise<KnownIds> {
  const registry = records.flatMap((record) => {
    if (record.headers[KIND_HEADER] !== REGISTRY_KIND) return [];
    const parsed = parseLogRecord(record);
    return parsed.kind === "registry" ? [parsed.record] : [];
  });
  if (registry.length === 0) return { recordIds: new Set(), meterIds: new Set() };
  const meterIds = registry.flatMap((record) => ("device" in record ? [record.device.meterId] : []));
  return findKnown(
    pool,
    registry.map((record) => record.id),
    meterIds,
  );
}

/** Tells listeners which meters changed. A hint: who misses it reads the registry anyway. */
export async function announceRegistry(
  pool: Pool,
  log: Logger,
  records: readonly RegistryRecord[],
): Promise<void> {
  const meterIds = new Set(
    records.flatMap((record) => [
      ...("meterId" in record ? [record.meterId] : []),
      ...("device" in record ? [record.device.meterId] : []),
    ]),
  );
  await pool
    .query("select pg_notify($1, meter_id) from unnest($2::text[]) as m (meter_id)", [
      REGISTRY_CHANNEL,
      [...meterIds],
    ])
    .catch((error: unknown) => log.warn({ err: error }, "registry change not announced"));
}

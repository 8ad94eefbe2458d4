import type { CommissionRecord, Device, RegistryRecord } from "../domain/metering/registry-records.ts";
import type { Connection, Queryable } from "../service/database.ts";
import { invariant } from "../service/errors.ts";

/** A registry record as the aggregator took it from the log. */
export interface ProjectedRecord {
  readonly record: RegistryRecord;
  readonly offset: bigint;
  /** Why it took no effect; `undefined` where it did. */
  readonly refused: string | undefined;
}

/** Which of these record ids and meter ids the registry knows. */
export async function findKnown(
  db: Queryable,
  recordIds: readonly string[],
  meterIds: readonly string[],
): Promise<{ readonly recordIds: Set<string>; readonly meterIds: Set<string> }> {
  const records = await db.query<{ record_id: string }>(
    "select record_id from ledger.registry_record where record_id = any($1)",
    [recordIds],
  );
  const meters = await db.query<{ meter_id: string }>(
    "select meter_id from ledger.meter where meter_id = any($1)",
    [meterIds],
  );
  return {
    recordIds: new Set(records.rows.map((row) => row.record_id)),
    meterIds: new Set(meters.rows.map((row) => row.meter_id)),
  };
}

/**
 * Projects records into the registry, in the log's order, and raises the region's registry version by those that
 * took effect. Call it with the region locked alone, in the transaction that moves the offset past them. Rejects with
 * PostgreSQL's unique violation where another partition commissioned the same meter at the same moment.
 */
export async function projectRecords(
  connection: Connection,
  place: { readonly regionId: number; readonly partition: number },
  records: readonly ProjectedRecord[],
): Promise<void> {
  if (records.length === 0) return;
  await connection.query(
    `insert into ledger.registry_record (record_id, region_id, partition, log_offset, refused)
     select r.id, $1, $2, r.log_offset, r.refused
       from unnest($3::text[], $4::bigint[], $5::text[]) as r (id, log_offset, refused)
     on conflict (record_id) do nothing`,
    [
      place.regionId,
      place.partition,
      records.map(({ record }) => record.id),
      records.map(({ offset }) => offset),
      records.map(({ refused }) => refused ?? null),
    ],
  );
  const applied = records.filter(({ refused }) => refused === undefined).map(({ record }) => record);
  // Commissionings change no row, so they can come first and together: a fleet starts with thousands of them.
  await insertCommissioned(
    connection,
    place.regionId,
    applied.filter((record) => record.type === "commission"),
  );
  for (const record of applied) {
    if (record.type !== "commission") await changeMeter(connection, record);
  }
  await connection.query(
    "update ledger.region set registry_version = registry_version + $2 where region_id = $1",
    [place.regionId, applied.length],
  );
}

async function insertCommissioned(
  connection: Connection,
  regionId: number,
  records: readonly CommissionRecord[],
): Promise<void> {
  if (records.length === 0) return;
  await connection.query(
    `insert into ledger.meter (meter_id, region_id, utility, service_point, account, modulus_wh, max_power_w, secret_sha256,
                        commissioned_at)
     select m.meter_id, $1, m.utility, m.service_point, decode(m.account, 'hex'), m.modulus_wh, m.max_power_w,
            decode(m.secret, 'hex'), m.commissioned_at
       from unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::text[], $9::bigint[])
         as m (meter_id, utility, service_point, account, modulus_wh, max_power_w, secret, commissioned_at)`,
    [
      regionId,
      records.map(({ device }) => device.meterId),
      records.map(({ utility }) => utility),
      records.map(({ servicePoint }) => servicePoint),
      records.map(({ account }) => account.slice(2)),
      records.map(({ device }) => device.modulusWh),
      records.map(({ device }) => device.maxPowerW),
      records.map(({ device }) => device.secretSha256),
      records.map(({ at }) => at),
    ],
  );
}

async function changeMeter(
  connection: Connection,
  record: Exclude<RegistryRecord, CommissionRecord>,
): Promise<void> {
  if (record.type === "reset") {
    await connection.query("update ledger.meter set epoch = $2 where meter_id = $1", [
      record.meterId,
      record.epoch + 1,
    ]);
    return;
  }
  await connection.query("update ledger.meter set retired_at = $2 where meter_id = $1", [
    record.meterId,
    record.at,
  ]);
  if (record.type === "swap") await insertSuccessor(connection, record.meterId, record.device, record.at);
}

async function insertSuccessor(
  connection: Connection,
  predecessorId: string,
  device: Device,
  at: number,
): Promise<void> {
  const inserted = await connection.query(
    `insert into ledger.meter (meter_id, region_id, utility, service_point, account, modulus_wh, max_power_w, secret_sha256,
                        commissioned_at)
     select $2, region_id, utility, service_point, account, $3, $4, decode($5, 'hex'), $6
       from ledger.meter where meter_id = $1`,
    [predecessorId, device.meterId, device.modulusWh, device.maxPowerW, device.secretSha256, at],
  );
  invariant(inserted.rowCount === 1, "a swapped meter is in the registry");
}

/** A birth certificate: what a device says of itself, as JSON. */
export interface Birth {
  readonly meterId: string;
  readonly payload: string;
  readonly receivedMs: number;
}

/** Keeps the last birth certificate of each meter. */
export async function saveBirths(connection: Connection, births: readonly Birth[]): Promise<void> {
  if (births.length === 0) return;
  await connection.query(
    `insert into ledger.meter_birth (meter_id, payload, received_ms)
     select * from unnest($1::text[], $2::jsonb[], $3::bigint[])
     on conflict (meter_id) do update set payload = excluded.payload, received_ms = excluded.received_ms`,
    [
      births.map(({ meterId }) => meterId),
      births.map(({ payload }) => payload),
      births.map(({ receivedMs }) => receivedMs),
    ],
  );
}

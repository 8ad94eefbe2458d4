import type { Hex } from "../domain/settlement/settlement.ts";
import { type Wh, wh } from "../domain/metering/units.ts";
import type { Queryable } from "../service/database.ts";

/** NOTIFY channel on which a changed meter's id is announced after its projection has committed. */
export const REGISTRY_CHANNEL = "registry";

/** A device in the registry. */
export interface Meter {
  readonly meterId: string;
  readonly regionId: number;
  readonly region: string;
  readonly utility: string;
  readonly servicePoint: string;
  readonly account: Hex;
  readonly modulusWh: Wh;
  readonly maxPowerW: number;
  readonly secretSha256: Buffer;
  /** The open register epoch. */
  readonly epoch: number;
  readonly commissionedAt: number;
  /** Swapped out or retired, unix seconds. */
  readonly retiredAt: number | undefined;
  readonly flagged: string | undefined;
}

interface Row {
  meter_id: string;
  region_id: number;
  region: string;
  utility: string;
  service_point: string;
  account: Buffer;
  modulus_wh: bigint;
  max_power_w: bigint;
  secret_sha256: Buffer;
  epoch: number;
  commissioned_at: bigint;
  retired_at: bigint | null;
  flagged: string | null;
}

const SELECT = `select m.*, r.name as region from ledger.meter m join ledger.region r using (region_id)`;

/** The meter of that id, or `undefined`. */
export async function findMeter(db: Queryable, meterId: string): Promise<Meter | undefined> {
  const result = await db.query<Row>(`${SELECT} where meter_id = $1`, [meterId]);
  return result.rows[0] === undefined ? undefined : toMeter(result.rows[0]);
}

/** Meters by id, after `afterMeterId`, of one region or of all; at most `limit`. */
export async function listMeters(
  db: Queryable,
  page: {
    region?: string | undefined;
    account?: Hex | undefined;
    afterMeterId?: string | undefined;
    limit: number;
  },
): Promise<readonly Meter[]> {
  const result = await db.query<Row>(
    `${SELECT}
      where meter_id > $1 and ($2::text is null or r.name = $2) and ($3::bytea is null or m.account = $3)
      order by meter_id limit $4`,
    [
      page.afterMeterId ?? "",
      page.region ?? null,
      page.account === undefined ? null : Buffer.from(page.account.slice(2), "hex"),
      page.limit,
    ],
  );
  return result.rows.map(toMeter);
}

function toMeter(row: Row): Meter {
  return {
    meterId: row.meter_id,
    regionId: row.region_id,
    region: row.region,
    utility: row.utility,
    servicePoint: row.service_point,
    account: `0x${row.account.toString("hex")}`,
    modulusWh: wh(row.modulus_wh),
    maxPowerW: Number(row.max_power_w),
    secretSha256: row.secret_sha256,
    epoch: row.epoch,
    commissionedAt: Number(row.commissioned_at),
    retiredAt: row.retired_at === null ? undefined : Number(row.retired_at),
    flagged: row.flagged ?? undefined,
  };
}

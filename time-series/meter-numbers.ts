import type { Pool } from "../service/database.ts";
import type { SeriesPoint } from "./time-series.ts";

/** A meter as the series knows it. */
export interface NumberedMeter {
  readonly number: number;
  /** The region it was first written with. */
  readonly region: string;
}

/** The most meters remembered; beyond it the oldest are looked up again. About 100 bytes each. */
const MAX_REMEMBERED = 500_000;

/** Short numbers for meter ids, which keep rows about meters small. Remembered, because they never change. */
export class MeterNumbers {
  readonly #pool: Pool;
  readonly #table: string;
  readonly #byId = new Map<string, NumberedMeter>();

  /** `table` is `meter` with its schema: (id identity, meter_id unique, region). */
  constructor(pool: Pool, table: string) {
    this.#pool = pool;
    this.#table = table;
  }

  /** The meters of these points; those never seen get a number. Idempotent. */
  async resolve(points: readonly SeriesPoint[]): Promise<ReadonlyMap<string, NumberedMeter>> {
    const found = new Map<string, NumberedMeter>();
    const unknown = new Map<string, string>();
    for (const { meterId, region } of points) {
      const meter = this.#byId.get(meterId);
      if (meter !== undefined) found.set(meterId, meter);
      else if (!unknown.has(meterId)) unknown.set(meterId, region);
    }
    if (unknown.size > 0) {
      for (const [meterId, meter] of await this.#lookUp(unknown)) {
        found.set(meterId, meter);
        this.#remember(meterId, meter);
      }
    }
    return found;
  }

  /**
   * Sorted, so that two processes that meet the same new meters wait for one another instead of deadlocking.
   * Only missing ids are inserted: each attempt would use up a number. The outer select runs on the statement's
   * own snapshot, so what another process inserted meanwhile is found by asking again.
   */
  async #lookUp(regionById: ReadonlyMap<string, string>): Promise<Map<string, NumberedMeter>> {
    const ids = [...regionById.keys()].sort();
    const regions = ids.map((id) => regionById.get(id));
    await this.#pool.query(
      `insert into ${this.#table} (meter_id, region)
       select n.meter_id, n.region from unnest($1::text[], $2::text[]) with ordinality as n(meter_id, region, place)
        where not exists (select 1 from ${this.#table} m where m.meter_id = n.meter_id)
        order by n.place
       on conflict (meter_id) do nothing`,
      [ids, regions],
    );
    const result = await this.#pool.query<{ id: number; meter_id: string; region: string }>(
      `select id, meter_id, region from ${this.#table} where meter_id = any($1)`,
      [ids],
    );
    return new Map(result.rows.map((row) => [row.meter_id, { number: row.id, region: row.region }]));
  }

  #remember(meterId: string, meter: NumberedMeter): void {
    if (this.#byId.size >= MAX_REMEMBERED) {
      for (const oldest of this.#byId.keys()) {
        this.#byId.delete(oldest);
        break;
      }
    }
    this.#byId.set(meterId, meter);
  }
}

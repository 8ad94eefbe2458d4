import { intervalEnd } from "../domain/metering/intervals.ts";
import { type Wh, wh } from "../domain/metering/units.ts";
import { decodeEvidence } from "../domain/settlement/evidence.ts";
import type { Hex } from "../domain/settlement/settlement.ts";
import { type BatchKey, readEvidence } from "../ledger/batches.ts";
import { type Adjustment, sumAdjustments } from "../ledger/findings.ts";
import { findBatchUntil } from "../ledger/sealing.ts";
import type { Connection } from "../service/database.ts";
import { invariant } from "../service/errors.ts";

/** An accepted reading, or a closing register, of an interval that had been sealed without it. */
export interface LateReading {
  readonly servicePoint: string;
  readonly account: Hex;
  readonly meterId: string;
  readonly epoch: number;
  readonly seq: number;
  /** Unix seconds. */
  readonly t: number;
  /** C(t). */
  readonly creditWh: Wh;
}

/** Sealed boundary values by service point. */
type SealedValues = ReadonlyMap<string, Wh>;

/** Decoded evidence files that are kept: late readings mostly belong to the same few intervals. */
const CACHED_FILES = 8;

/**
 * Works out what sealed intervals lacked, from their evidence files. An instance serves one process; files never
 * change, so it never forgets for the sake of truth, only of memory.
 */
export class LateReadings {
  readonly #cache = new Map<string, SealedValues>();

  /**
   * The adjustments that late readings of a region give rise to: for each, how far C(t) exceeds the interval's
   * sealed value and the adjustments made to it before. A reading that tells nothing new gives none.
   */
  async adjustments(
    connection: Connection,
    regionId: number,
    intervalLengthS: number,
    readings: readonly LateReading[],
  ): Promise<readonly Adjustment[]> {
    if (readings.length === 0) return [];
    const late = readings
      .map((reading) => ({ ...reading, interval: intervalEnd(reading.t, intervalLengthS) }))
      .toSorted((a, b) => a.interval - b.interval || (a.creditWh < b.creditWh ? -1 : 1));
    const adjusted = new Map(await sumAdjustments(connection, regionId, late));
    const adjustments: Adjustment[] = [];
    let sealed: { readonly interval: number; readonly values: SealedValues } | undefined;
    // Interval by interval: a meter that was away for a month brings thousands, and their files do not fit in memory.
    for (const { interval, servicePoint, creditWh, ...reading } of late) {
      if (sealed?.interval !== interval) {
        sealed = { interval, values: await this.#sealedValues(connection, regionId, interval) };
      }
      const key = `${interval}/${servicePoint}`;
      const knownWh = (sealed.values.get(servicePoint) ?? 0n) + (adjusted.get(key) ?? 0n);
      if (creditWh <= knownWh) continue;
      const deltaWh = wh(creditWh - knownWh);
      adjusted.set(key, (adjusted.get(key) ?? 0n) + deltaWh);
      const { account, meterId, epoch, seq } = reading;
      adjustments.push({ interval, servicePoint, account, meterId, epoch, seq, deltaWh });
    }
    return adjustments;
  }

  /** What the batch of the interval said, or the one before where it was skipped; nothing before the first. */
  async #sealedValues(connection: Connection, regionId: number, interval: number): Promise<SealedValues> {
    const batch = await findBatchUntil(connection, regionId, interval);
    if (batch === undefined) return new Map();
    const key = `${batch.regionId}/${batch.round}/${batch.interval}`;
    const values = this.#cache.get(key) ?? (await readValues(connection, batch));
    this.#cache.delete(key);
    this.#cache.set(key, values);
    if (this.#cache.size > CACHED_FILES) this.#cache.delete(this.#cache.keys().next().value!);
    return values;
  }
}

async function readValues(connection: Connection, batch: BatchKey): Promise<SealedValues> {
  const file = await readEvidence(connection, batch);
  invariant(file !== undefined, "a batch has evidence");
  const evidence = decodeEvidence(file);
  return new Map(
    evidence.accounts.flatMap(({ points }) => points.map((point) => [point.servicePoint, point.creditWh])),
  );
}

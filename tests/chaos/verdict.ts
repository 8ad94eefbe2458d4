import type { Machine } from "../../cli/machine.ts";
import { apiUrl } from "../../cli/proof.ts";
import { chainFigures, checkProofs, ledgerFigures } from "../../cli/reconciliation.ts";
import { decodeEvidence } from "../../domain/settlement/evidence.ts";
import type { Hex } from "../../domain/settlement/settlement.ts";
import { type Wh, addWh, subWh, ZERO_WH } from "../../domain/metering/units.ts";
import { findBatch, readEvidence } from "../../ledger/batches.ts";
import { exportedWh, type Fleet, trueExportWh } from "../../simulators/fleet.ts";
import type { TimeSeries } from "../../time-series/time-series.ts";
import { recorderBalance } from "../../time-series/recorder-balance.ts";
import { type Load, type LoadMeter, SPACING_S } from "./load.ts";

/** What became of the readings. */
export interface ReadingFigures {
  /** Distinct readings that were acknowledged to a meter. */
  readonly acked: number;
  /** Distinct readings in the series. */
  readonly recorded: number;
  /** Acknowledged readings that are not in the series. */
  readonly lost: number;
  /** Points of the series beyond the first of the same reading. */
  readonly duplicatesInStore: number;
}

/** What became of the energy, and what is wrong with it in words. */
export interface EnergyFigures {
  readonly creditedOnce: boolean;
  readonly batchesDoubled: number;
  readonly faults: readonly string[];
}

/** Simulated time whose readings of one meter are asked for at once. */
const WINDOW_S = 86_400;
const METERS_AT_ONCE = 4;

/** Reads every meter's whole series and compares it, reading by reading, with what the meter was acknowledged. */
export async function countReadings(
  timeSeries: TimeSeries,
  load: Load,
  end: number,
): Promise<ReadingFigures> {
  let [acked, recorded, lost, duplicatesInStore] = [0, 0, 0, 0];
  const waiting = [...load.meters];
  await Promise.all(
    Array.from({ length: METERS_AT_ONCE }, async () => {
      for (let meter = waiting.pop(); meter !== undefined; meter = waiting.pop()) {
        const stored = await storedReadings(timeSeries, meter, end);
        recorded += stored.distinct.size;
        duplicatesInStore += stored.points - stored.distinct.size;
        for (let number = 1; number <= meter.taken; number += 1) {
          if (!meter.isAcknowledged(number)) continue;
          acked += 1;
          if (!stored.distinct.has(number)) lost += 1;
        }
      }
    }),
  );
  return { acked, recorded, lost, duplicatesInStore };
}

/** The numbers of a meter's stored readings; a point that is none of the meter's readings counts by its identity. */
async function storedReadings(timeSeries: TimeSeries, { meter }: LoadMeter, end: number) {
  const distinct = new Set<number | string>();
  let points = 0;
  // A reading stored under a wrong time may lie anywhere.
  for (let from = meter.installedAt - WINDOW_S; from < end + WINDOW_S; from += WINDOW_S) {
    // Twice as many as there may be, so that duplicates are seen.
    const limit = (2 * WINDOW_S) / SPACING_S;
    for (const { epoch, seq } of await timeSeries.readings(
      meter.meterId,
      { from, to: from + WINDOW_S },
      limit,
    )) {
      points += 1;
      const number = seq / 4 / SPACING_S;
      distinct.add(epoch === 0 && Number.isInteger(number) ? number : `${epoch} ${seq}`);
    }
  }
  return { distinct, points };
}

/**
 * Compares the registers of the meters at `end` with the newest batch's leaves, account by account, these with the
 * chain by a proof for each, and counts what was batched or settled more than once.
 */
export async function judgeEnergy(machine: Machine, fleet: Fleet, end: number): Promise<EnergyFigures> {
  const stores = await machine.process.stores();
  const chain = await machine.process.chain();
  const { context } = machine.process;
  const faults: string[] = [];
  let doubled = await doubledBatches(machine);
  for (const { regionId, name } of context.grid.regions) {
    const credited = await ledgerFigures(stores.ledger, name);
    const settled = await chainFigures(chain, regionId);
    const trueWh = trueExportWh(fleet, end).get(name) ?? ZERO_WH;
    if (credited.creditedWh !== trueWh)
      faults.push(`${name}: credited ${credited.creditedWh} Wh, exported ${trueWh} Wh`);
    if (settled.settledWh !== credited.creditedWh)
      faults.push(`${name}: settled ${settled.settledWh} Wh, credited ${credited.creditedWh} Wh`);
    if (settled.settlements !== credited.batches)
      faults.push(`${name}: ${settled.settlements} settlements of ${credited.batches} batches`);
    const events = await chain.client.readSettled({ fromBlock: 0, toBlock: "latest", region: regionId });
    doubled += events.length - new Set(events.map(({ interval }) => interval)).size;
    faults.push(...(await wrongLeaves(machine, fleet, name, end)));
    await checkProofs({ stores, chain, apiUrl: apiUrl(context) }, name, end).catch((cause: unknown) =>
      faults.push(`${name}: ${(cause as Error).message}`),
    );
  }
  for (const gap of await recorderBalance(stores.ledger))
    faults.push(`${gap.topic} ${gap.partition}: the recorder's account does not balance`);
  return { creditedOnce: faults.length === 0, batchesDoubled: doubled, faults };
}

/** Accounts of a region whose leaf in the batch of `end` is not what their meters have exported. */
async function wrongLeaves(
  machine: Machine,
  fleet: Fleet,
  region: string,
  end: number,
): Promise<readonly string[]> {
  const ledger = await machine.process.ledger();
  const batch = await findBatch(ledger, { region, interval: end });
  const file = batch === undefined ? undefined : await readEvidence(ledger, batch);
  if (file === undefined) return [`${region}: no batch of ${end}`];
  const exported = new Map<Hex, Wh>();
  for (const point of fleet.servicePoints.filter((one) => one.region === region)) {
    exported.set(point.account, addWh(exported.get(point.account) ?? ZERO_WH, exportedWh(point, end)));
  }
  const credited = new Map(
    decodeEvidence(file).accounts.map(({ account, creditWh, debitWh }) => [
      account,
      subWh(creditWh, debitWh),
    ]),
  );
  const wrong = [...exported].filter(
    ([account, exportWh]) => (credited.get(account) ?? ZERO_WH) !== exportWh,
  );
  return wrong.map(
    ([account, exportWh]) =>
      `${region}: ${account} is credited ${credited.get(account) ?? ZERO_WH} Wh, exported ${exportWh} Wh`,
  );
}

/** Batches beyond the first of a region's interval that are not void, whatever their round. */
async function doubledBatches(machine: Machine): Promise<number> {
  const ledger = await machine.process.ledger();
  const result = await ledger.query<{ n: bigint }>(
    `select coalesce(sum(batches - 1), 0)::bigint as n from (
       select count(*) as batches from ledger.batch where voided_ms is null group by region_id, interval_end
     ) as counted`,
  );
  return Number(result.rows[0]?.n ?? 0n);
}

import type { TopicPartition, Position } from "../event-log/event-log.ts";
import { advance, type Claim } from "../ledger/consumer-offsets.ts";
import { flagMeters, saveAdjustments, saveQuarantined } from "../ledger/findings.ts";
import { lockRegion, moveSeal, type RegionTip } from "../ledger/regions.ts";
import { projectRecords, saveBirths } from "../ledger/registry.ts";
import { saveProgress, saveServicePoints } from "../ledger/service-point-states.ts";
import type { Clock } from "../service/clock.ts";
import { type Connection, inTransaction, type Pool } from "../service/database.ts";
import { GridrootError } from "../service/errors.ts";
import type { FaultPoints } from "../service/faults.ts";
import type { LateReadings } from "./late-readings.ts";
import type { PartitionMemory } from "./partition-memory.ts";

export interface FlushDependencies {
  readonly pool: Pool;
  readonly clock: Clock;
  readonly faults: FaultPoints;
  readonly lateReadings: LateReadings;
}

/** What is to be written, and where. */
export interface Flush {
  readonly regionId: number;
  readonly intervalLengthS: number;
  readonly claim: Claim;
  readonly position: Position;
  readonly memory: PartitionMemory;
  /** The interval of the record before which the partition pauses. */
  readonly blockedEnd: number | undefined;
}

/** Why an adjustment was made. */
const LATE = "late-reading";

/**
 * Writes everything that the records up to `position` changed, in one transaction with the offset. Resolves to the
 * claim as it stands then; afterwards `memory` equals the ledger.
 *
 * Throws `partition-taken-over` where the fence no longer fits: nothing was written, and what is in memory is void.
 */
export async function flushPartition(
  flush: Flush,
  { pool, clock, faults, lateReadings }: FlushDependencies,
): Promise<Claim> {
  const { regionId, claim, memory } = flush;
  const { changes } = memory;
  faults.hit("aggregator.flush.before");
  const moved = await inTransaction(pool, async (connection) => {
    const tip = await lockRegion(connection, regionId, changes.records.length > 0 ? "alone" : "shared");
    const next = await advance(connection, claim, flush.position);
    if (next === undefined) throw takenOver(claim);
    await catchUpWithSeal(connection, flush, tip);
    await saveServicePoints(connection, regionId, claim.partition, memory.dirtyStates());
    await saveProgress(connection, regionId, memory.progress(flush.blockedEnd), changes.counts);
    faults.hit("aggregator.flush.states-written");
    await projectRecords(connection, { regionId, partition: claim.partition }, changes.records);
    await saveBirths(connection, [...changes.births.values()]);
    await saveQuarantined(connection, changes.quarantined);
    await flagMeters(connection, [...changes.flagged], "equivocation");
    const adjustments = await lateReadings.adjustments(
      connection,
      regionId,
      flush.intervalLengthS,
      changes.late,
    );
    await saveAdjustments(connection, regionId, adjustments, LATE, clock.nowMs());
    faults.hit("aggregator.flush.before-commit");
    return next;
  });
  faults.hit("aggregator.flush.after-commit");
  memory.flushed();
  return moved;
}

/**
 * Takes over what was sealed since the last flush: facts about a sealed boundary become adjustments. A region's first
 * meter says from when on it is sealed: from the last boundary at or before its commissioning.
 */
async function catchUpWithSeal(
  connection: Connection,
  { regionId, intervalLengthS, memory }: Flush,
  tip: RegionTip,
): Promise<void> {
  let { sealedUntil } = tip;
  if (sealedUntil === undefined) {
    const begins = memory.changes.records
      .filter(({ record, refused }) => record.type === "commission" && refused === undefined)
      .map(({ record }) => record.at);
    if (begins.length === 0) return;
    const first = Math.min(...begins);
    sealedUntil = first - (first % intervalLengthS);
    await moveSeal(connection, regionId, sealedUntil);
  }
  if (sealedUntil !== memory.sealedUntil) memory.seal(sealedUntil);
}

function takenOver({ topic, partition }: TopicPartition): GridrootError {
  return new GridrootError("partition-taken-over", `${topic}/${partition} has another owner`, {
    retryable: true,
  });
}

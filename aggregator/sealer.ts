import type { Logger } from "pino";
import { intervalEnd } from "../domain/metering/intervals.ts";
import { boundaryPoint, creditWh, type ServicePoint } from "../domain/metering/service-point.ts";
import { wh } from "../domain/metering/units.ts";
import { type BoundaryValue, buildBatch } from "../domain/settlement/batch.ts";
import { decodeEvidence, type Evidence } from "../domain/settlement/evidence.ts";
import type { Keccak } from "../domain/settlement/hasher.ts";
import type { EventLog } from "../event-log/event-log.ts";
import { regionTopic } from "../event-log/topics.ts";
import { BATCHES_CHANNEL, type BatchKey, readEvidence } from "../ledger/batches.ts";
import { lockRegion, moveSeal, readRegionTip, type RegionTip } from "../ledger/regions.ts";
import {
  type Barrier,
  BARRIERS_CHANNEL,
  findBatchUntil,
  forgetSealed,
  insertBatch,
  lowerBarrier,
  saveBarrier,
} from "../ledger/sealing.ts";
import { loadServicePoints } from "../ledger/service-point-states.ts";
import type { Clock } from "../service/clock.ts";
import { type Connection, inTransaction, type Pool } from "../service/database.ts";
import { invariant } from "../service/errors.ts";
import type { FaultPoints } from "../service/faults.ts";
import type { AggregatorMetrics } from "./aggregator-metrics.ts";
import { decideSeal, type Readiness, type SealRules } from "./readiness.ts";
import type { RegionConfig, RegionWatch } from "./region-watch.ts";
import { aggregatorOffsets, readSealFacts } from "./seal-facts.ts";

export interface SealerOptions extends SealRules {
  readonly partitionsPerRegion: number;
}

export interface SealerDependencies {
  readonly pool: Pool;
  readonly eventLog: EventLog;
  readonly clock: Clock;
  readonly hasher: Keccak;
  readonly log: Logger;
  readonly metrics: AggregatorMetrics;
  readonly faults: FaultPoints;
  /** Called after the commit of a batch. */
  readonly onSealed: (batch: BatchKey) => void;
}

/** What a seal did: how far the region is sealed, and the batch, unless the whole region was silent. */
interface Sealed {
  readonly until: number;
  readonly evidence: Evidence | undefined;
  readonly lowered: number;
}

/** Seals regions: decides from the ledger, builds a batch from the stored states, and writes all of it or nothing. */
export class Sealer {
  readonly #options: SealerOptions;
  readonly #dependencies: SealerDependencies;
  /** The newest evidence of each region, which the next batch chains to. */
  readonly #newest = new Map<number, Evidence>();

  constructor(options: SealerOptions, dependencies: SealerDependencies) {
    this.#options = options;
    this.#dependencies = dependencies;
  }

  /** What is to be done about a region now. Only `sealReady` knows for certain. */
  async look(region: RegionConfig): Promise<Readiness> {
    const { pool, clock } = this.#dependencies;
    const { sealedUntil } = await readRegionTip(pool, region.regionId);
    return decideSeal(await readSealFacts(pool, region, sealedUntil), this.#options, clock.nowMs());
  }

  /**
   * Seals every interval of the region that is ready, one after the other. Harmless to run twice at a time: each
   * seal locks the region and decides anew.
   */
  async sealReady(watch: RegionWatch): Promise<void> {
    for (;;) {
      const readiness = await this.look(watch.region);
      if (readiness.kind === "barrier-missing") {
        await this.#determineBarrier(watch, readiness.end, readiness.deadlineMs);
        continue;
      }
      const sealed = readiness.kind === "ready" ? await this.#sealNext(watch.region) : undefined;
      if (sealed === undefined) return;
      await this.#announceSeal(watch, sealed);
    }
  }

  async #determineBarrier(watch: RegionWatch, end: number, deadlineMs: number): Promise<void> {
    const { eventLog, pool, faults } = this.#dependencies;
    const { regionId, name } = watch.region;
    const barriers: Barrier[] = [];
    for (let partition = 0; partition < this.#options.partitionsPerRegion; partition += 1) {
      const nextOffset = await eventLog.offsetAfter({ topic: regionTopic(name), partition }, deadlineMs);
      barriers.push({ interval: end, partition, nextOffset });
    }
    await saveBarrier(pool, regionId, barriers);
    faults.hit("aggregator.barrier.stored");
    await watch.refresh();
    await this.#notify(BARRIERS_CHANNEL, String(regionId));
  }

  /** One seal, in one transaction; `undefined` where the region turns out not to be ready. */
  async #sealNext(region: RegionConfig): Promise<Sealed | undefined> {
    const { pool, clock, faults, metrics } = this.#dependencies;
    const timed = metrics.sealDuration.startTimer();
    faults.hit("aggregator.seal.before");
    const sealed = await inTransaction(pool, async (connection) => {
      const tip = await lockRegion(connection, region.regionId, "alone");
      const facts = await readSealFacts(connection, region, tip.sealedUntil);
      const readiness = decideSeal(facts, this.#options, clock.nowMs());
      if (readiness.kind !== "ready") return undefined;
      const { lowered } = readiness;
      for (const barrier of lowered) await lowerBarrier(connection, region.regionId, barrier);
      const states = await loadServicePoints(connection, region.regionId);
      const silence = silenceUntil(states, tip.sealedUntil!, readiness.end, this.#options.intervalLengthS);
      const end = silence ?? tip.sealedUntil! + this.#options.intervalLengthS;
      const evidence =
        silence === undefined ? await this.#writeBatch(connection, region, tip, end, states) : undefined;
      await moveSeal(connection, region.regionId, end);
      await forgetSealed(connection, region.regionId, end);
      faults.hit("aggregator.seal.before-commit");
      return { until: end, evidence, lowered: lowered.length };
    });
    faults.hit("aggregator.seal.after-commit");
    timed();
    return sealed;
  }

  async #writeBatch(
    connection: Connection,
    region: RegionConfig,
    tip: RegionTip,
    interval: number,
    states: readonly ServicePoint[],
  ): Promise<Evidence> {
    const previous = await this.#previous(connection, region.regionId, interval);
    const batch = buildBatch(this.#dependencies.hasher, previous, {
      region: region.regionId,
      round: tip.round,
      interval,
      intervalLengthS: this.#options.intervalLengthS,
      capWh: wh(region.capWh),
      registryVersion: tip.registryVersion,
      offsets: await this.#offsets(connection, region),
      boundaries: boundaryValues(states, interval),
    });
    await insertBatch(connection, batch, this.#dependencies.clock.nowMs());
    return batch.evidence;
  }

  /** One entry for each partition: what was never consumed stands at 0. */
  async #offsets(connection: Connection, region: RegionConfig) {
    const stored = new Map(
      (await aggregatorOffsets(connection, region)).map(({ partition, nextOffset }) => [
        partition,
        nextOffset,
      ]),
    );
    return Array.from({ length: this.#options.partitionsPerRegion }, (_, partition) => ({
      partition,
      nextOffset: stored.get(partition) ?? 0n,
    }));
  }

  async #previous(connection: Connection, regionId: number, interval: number): Promise<Evidence | undefined> {
    const key = await findBatchUntil(connection, regionId, interval);
    if (key === undefined) return undefined;
    const newest = this.#newest.get(regionId);
    if (newest?.interval === key.interval && newest.round === key.round) return newest;
    const file = await readEvidence(connection, key);
    invariant(file !== undefined, "a batch has evidence");
    return decodeEvidence(file);
  }

  async #announceSeal(watch: RegionWatch, { until, evidence, lowered }: Sealed): Promise<void> {
    const { log, metrics, onSealed } = this.#dependencies;
    const { regionId, name: region } = watch.region;
    if (lowered > 0) metrics.barriersLowered.inc({ region }, lowered);
    if (evidence === undefined) {
      metrics.intervalsSkipped.inc({ region });
      log.info({ region, until }, "silence passed over");
    } else {
      this.#newest.set(regionId, evidence);
      metrics.batchesSealed.inc({ region });
      log.debug({ region, interval: until, accounts: evidence.accounts.length }, "interval sealed");
    }
    watch.learnSeal(until);
    if (evidence !== undefined) onSealed({ regionId, round: evidence.round, interval: until });
    await this.#notify(BATCHES_CHANNEL, String(regionId));
  }

  /** A hint: who misses it looks again by itself. Sent apart, because a NOTIFY makes all commits queue. */
  async #notify(channel: string, payload: string): Promise<void> {
    const { pool, log } = this.#dependencies;
    await pool
      .query("select pg_notify($1, $2)", [channel, payload])
      .catch((error: unknown) => log.warn({ err: error, channel }, "not announced"));
  }
}

/**
 * How far, at most to `end`, nobody has said anything after `sealedUntil`: the end of the last silent interval, or
 * `undefined` where somebody spoke in the very next one.
 */
function silenceUntil(
  states: readonly ServicePoint[],
  sealedUntil: number,
  end: number,
  lengthS: number,
): number | undefined {
  let first = Number.POSITIVE_INFINITY;
  for (const { points } of states) {
    const spoke = points.find(({ t }) => t > sealedUntil);
    if (spoke !== undefined && spoke.t < first) first = spoke.t;
  }
  const until = first > end ? end : intervalEnd(first, lengthS) - lengthS;
  return until === sealedUntil ? undefined : until;
}

/** C(end) of every service point that has one. */
export function boundaryValues(states: readonly ServicePoint[], end: number): BoundaryValue[] {
  return states.flatMap((state) => {
    const point = boundaryPoint(state, end);
    if (point === undefined) return [];
    const { servicePoint, account } = state;
    const { meterId, epoch } = point.segment;
    return [{ servicePoint, account, creditWh: creditWh(point), meterId, epoch, seq: point.seq, t: point.t }];
  });
}

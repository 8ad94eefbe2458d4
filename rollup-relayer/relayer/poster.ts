import type { Logger } from "pino";
import {
  type AuthoritySet,
  type SettlementClient,
  type SettlementErrorCode,
  encodePost,
} from "../../contracts/client.ts";
import type { Hex, SettlementDomain } from "../../domain/settlement/settlement.ts";
import { type Lane, type NewAttempt, journalAttempts, lockLane } from "../../ledger/attempts.ts";
import type { Batch } from "../../ledger/batches.ts";
import {
  type RegionQueue,
  postingQueues,
  refuseSettlement,
  settleExternally,
} from "../../ledger/posting-queue.ts";
import type { Clock } from "../../service/clock.ts";
import { type Pool, inTransaction } from "../../service/database.ts";
import { GridrootError, invariant } from "../../service/errors.ts";
import type { FaultPoints } from "../../service/faults.ts";
import { type Signer, signTransaction } from "../signer.ts";
import { type AttestedBatch, attestedPrefix } from "./attested.ts";
import type { Chain, Fees, Head, PostCall } from "./chain.ts";

export interface PosterOptions {
  readonly lane: Lane;
  readonly domain: SettlementDomain;
  /** As the follower's: what somebody else settled counts from this depth on. */
  readonly confirmations: number;
  /** Transactions signed and not mined, of all regions. */
  readonly maxInFlight: number;
  readonly maxInFlightPerRegion: number;
  /** Above this, per gas, nothing is posted. */
  readonly maxFeeCeilingWei: bigint;
  /** How much more than estimated a transaction may use, in percent. */
  readonly gasMarginPercent: number;
  /** How long a region waits after the chain would refuse its next batch. */
  readonly retryRefusedMs: number;
}

export interface PosterDependencies {
  readonly pool: Pool;
  readonly chain: Chain;
  readonly client: SettlementClient;
  readonly signer: Signer;
  readonly log: Logger;
  readonly clock: Clock;
  readonly faults: FaultPoints;
  /** Hears of an attestation that is stored but not valid. */
  readonly invalidAttestation: () => void;
}

/** What a pass did. */
export interface Posted {
  readonly signed: number;
  readonly settledExternally: number;
  /** Regions whose next batch the chain would refuse. */
  readonly refusedRegions: number;
}

/**
 * What a post into a ring slot that never held a record uses beyond one into a used slot (EIP-2929, EIP-2200): the
 * region's estimate may have been for the latter, while a batch behind it meets the former.
 */
const FRESH_SLOT_GAS = 17_100n;

const ALREADY_SETTLED: SettlementErrorCode = "contract-already-settled";

interface Prepared {
  readonly attested: AttestedBatch;
  readonly data: Hex;
  readonly gasLimit: bigint;
}

/**
 * Turns attested batches into signed transactions in the journal. Nothing is sent here. A region's batches take
 * rising nonces in the order of its chain, and follow one another without waiting for the one before to be mined.
 */
export class Poster {
  readonly #options: PosterOptions;
  readonly #dependencies: PosterDependencies;
  /** The last estimate of each region, for batches whose parent is not mined yet. */
  readonly #gasByRegion = new Map<number, bigint>();
  readonly #retryAtMs = new Map<number, number>();
  /** Then the fee is looked at before anything is verified. */
  #wasAboveCeiling = false;

  constructor(options: PosterOptions, dependencies: PosterDependencies) {
    this.#options = options;
    this.#dependencies = dependencies;
  }

  /** One pass over all regions. */
  async post(head: Head, unmined: number): Promise<Posted> {
    const { pool, client, clock } = this.#dependencies;
    const queues = await postingQueues(pool, this.#options.maxInFlightPerRegion);
    const nowMs = clock.nowMs();
    const ready = queues.filter(
      (queue) => (this.#retryAtMs.get(queue.regionId) ?? 0) <= nowMs && isOpen(queue),
    );
    let room = this.#options.maxInFlight - unmined;
    let settledExternally = 0;
    const prepared: Prepared[] = [];
    if (ready.length > 0 && room > 0 && !(await this.#isAboveCeiling())) {
      const set = await client.readAuthoritySet();
      for (const queue of ready) {
        const ofRegion = await this.#prepareRegion(queue, set, head, Math.min(room, this.#roomOf(queue)));
        if (ofRegion === "settled-externally") settledExternally += 1;
        else {
          prepared.push(...ofRegion);
          room -= ofRegion.length;
        }
      }
    }
    const signed = prepared.length > 0 ? await this.#signAndJournal(prepared, head) : 0;
    const refusedRegions = [...this.#retryAtMs.values()].filter((atMs) => atMs > nowMs).length;
    return { signed, settledExternally, refusedRegions };
  }

  #roomOf(queue: RegionQueue): number {
    return this.#options.maxInFlightPerRegion - queue.inFlight;
  }

  async #prepareRegion(
    queue: RegionQueue,
    set: AuthoritySet,
    head: Head,
    room: number,
  ): Promise<readonly Prepared[] | "settled-externally"> {
    if (room <= 0) return [];
    const { pool, log, invalidAttestation } = this.#dependencies;
    // After a restart with transactions under way there is no estimate: wait until they are mined.
    if (queue.inFlight > 0 && !this.#gasByRegion.has(queue.regionId)) return [];
    const batches = chainedPrefix(queue.waiting).slice(0, room);
    const attested = await attestedPrefix(pool, this.#options.domain, set, batches, (batch) => {
      invalidAttestation();
      log.error(placeOf(batch), "stored attestation is not valid");
    });
    if (attested.length === 0) return [];
    const calldata = attested.map(({ settlement, signatures }) => encodePost(settlement, signatures));
    if (queue.inFlight === 0) {
      const outcome = await this.#estimate(attested[0]!.batch, calldata[0]!, head);
      if (outcome !== "good") return outcome === "settled-externally" ? outcome : [];
    }
    const gas = this.#gasByRegion.get(queue.regionId);
    invariant(gas !== undefined, "a region's first batch is estimated");
    const gasLimit = ((gas + FRESH_SLOT_GAS) * BigInt(100 + this.#options.gasMarginPercent)) / 100n;
    return attested.map((one, i) => ({ attested: one, data: calldata[i]!, gasLimit }));
  }

  /** Asks the chain whether it would take the region's next batch, and what that costs. */
  async #estimate(batch: Batch, data: Hex, head: Head): Promise<"good" | "settled-externally" | "refused"> {
    const { chain, pool, clock, log } = this.#dependencies;
    try {
      this.#gasByRegion.set(batch.regionId, await chain.estimateGas(this.#call(data)));
      this.#retryAtMs.delete(batch.regionId);
      return "good";
    } catch (error) {
      if (!(error instanceof GridrootError) || error.retryable) throw error;
      if (await this.#isSettledFinally(batch, head)) {
        await settleExternally(pool, batch, clock.nowMs());
        log.info(placeOf(batch), "batch was settled by somebody else");
        return "settled-externally";
      }
      this.#retryAtMs.set(batch.regionId, clock.nowMs() + this.#options.retryRefusedMs);
      // Settled, but not deep enough yet: no refusal to write down.
      if (error.code === ALREADY_SETTLED) return "refused";
      await refuseSettlement(pool, batch, error.code, clock.nowMs());
      log.warn({ ...placeOf(batch), code: error.code }, "chain would refuse the batch");
      return "refused";
    }
  }

  async #isSettledFinally(batch: Batch, head: Head): Promise<boolean> {
    const finalBlock = Math.max(0, head.blockNumber - this.#options.confirmations);
    return this.#dependencies.client.isAccepted(batch.content, finalBlock);
  }

  #call(data: Hex): PostCall {
    return { from: this.#options.lane.sender, to: this.#options.domain.verifyingContract, data };
  }

  /** Signs under the lane's lock and commits the bytes: only then may they be sent. Returns how many. */
  async #signAndJournal(prepared: readonly Prepared[], head: Head): Promise<number> {
    const fees = await this.#affordableFees();
    if (fees === undefined) return 0;
    const { pool, clock, faults } = this.#dependencies;
    await inTransaction(pool, async (connection) => {
      const free = await lockLane(connection, this.#options.lane);
      // Above the journal only where the key was used before Gridroot had it.
      const first = Math.max(free, head.nextNonce);
      const attempts = await this.#sign(prepared, fees, first);
      faults.hit("relayer.signed");
      await journalAttempts(connection, this.#options.lane, attempts, clock.nowMs());
      faults.hit("relayer.journalling");
    });
    faults.hit("relayer.journalled");
    return prepared.length;
  }

  async #sign(prepared: readonly Prepared[], fees: Fees, firstNonce: number): Promise<readonly NewAttempt[]> {
    const { chainId, verifyingContract } = this.#options.domain;
    const attempts: NewAttempt[] = [];
    for (const [i, { attested, data, gasLimit }] of prepared.entries()) {
      const nonce = firstNonce + i;
      const unsigned = { chainId, nonce, to: verifyingContract, data, gasLimit, ...fees };
      const { hash, raw } = await signTransaction(this.#dependencies.signer, unsigned);
      attempts.push({
        nonce,
        contract: verifyingContract,
        transaction: { hash, raw, gasLimit, ...fees },
        settlement: attested.batch,
      });
    }
    return attempts;
  }

  async #isAboveCeiling(): Promise<boolean> {
    return this.#wasAboveCeiling && (await this.#affordableFees()) === undefined;
  }

  /** `undefined` while the base fee alone is above the ceiling. */
  async #affordableFees(): Promise<Fees | undefined> {
    const { baseFeeWei, maxFeeWei, maxPriorityFeeWei } = await this.#dependencies.chain.fees();
    const ceilingWei = this.#options.maxFeeCeilingWei;
    this.#wasAboveCeiling = baseFeeWei > ceilingWei;
    if (this.#wasAboveCeiling) {
      const fields = { baseFeeWei: String(baseFeeWei), ceilingWei: String(ceilingWei) };
      this.#dependencies.log.warn(fields, "base fee is above the ceiling, nothing is posted");
      return undefined;
    }
    const cappedWei = maxFeeWei < ceilingWei ? maxFeeWei : ceilingWei;
    return {
      maxFeeWei: cappedWei,
      maxPriorityFeeWei: maxPriorityFeeWei < cappedWei ? maxPriorityFeeWei : cappedWei,
    };
  }
}

/** Whether the region may go on: nothing failed that is not settled yet, and its next batch follows what is under way. */
function isOpen(queue: RegionQueue): boolean {
  if (queue.failing) return false;
  return queue.lastUnderWay === undefined || queue.waiting[0]!.content.prevInterval === queue.lastUnderWay;
}

/** Batches that follow one another: a void batch between them ends the line. */
function chainedPrefix(batches: readonly Batch[]): readonly Batch[] {
  const end = batches.findIndex(
    (batch, i) =>
      i > 0 &&
      (batch.round !== batches[i - 1]!.round || batch.content.prevInterval !== batches[i - 1]!.interval),
  );
  return end < 0 ? batches : batches.slice(0, end);
}

function placeOf(batch: Batch): { region: string; round: number; interval: number } {
  return { region: batch.region, round: batch.round, interval: batch.interval };
}

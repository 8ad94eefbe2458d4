import { Transaction } from "ethers/transaction";
import type { Hex } from "../../domain/settlement/settlement.ts";
import {
  type Attempt,
  type AttemptStep,
  type Inclusion,
  type Lane,
  includedFrom,
  minedAttempts,
  moveAttempts,
  unminedAttempts,
} from "../../ledger/attempts.ts";
import type { Pool } from "../../service/database.ts";
import type { Clock } from "../../service/clock.ts";
import type { FaultPoints } from "../../service/faults.ts";
import type { Chain, Head } from "./chain.ts";

/** The step of an attempt, with what it is a step of. */
export type FollowedStep = AttemptStep & { readonly attempt: Attempt };

export interface FollowerOptions {
  readonly lane: Lane;
  /** Blocks on top of a transaction's own until it is final; 0 takes every block for final. */
  readonly confirmations: number;
}

export interface FollowerDependencies {
  readonly pool: Pool;
  readonly chain: Chain;
  readonly clock: Clock;
  readonly faults: FaultPoints;
}

/** Attempts looked at in one pass, and receipts asked for at once; more wait for the next. */
const PASS = 64;

/**
 * Brings the journal to what the chain says. Every step is one transaction and may be repeated; nothing is sent.
 *
 * An attempt whose nonce the chain has used is looked up by its hashes. What was included and is no more, because the
 * chain was reorganised or a node lost its end, goes back to `broadcast`, so that the same bytes are sent again.
 */
export class Follower {
  readonly #options: FollowerOptions;
  readonly #dependencies: FollowerDependencies;

  constructor(options: FollowerOptions, dependencies: FollowerDependencies) {
    this.#options = options;
    this.#dependencies = dependencies;
  }

  /** One pass; returns what changed. */
  async follow(head: Head): Promise<readonly FollowedStep[]> {
    const lost = await this.#reopenLost(head);
    const mined = await this.#noteInclusions(head);
    const ended = await this.#endConfirmed(head);
    return [...lost, ...mined, ...ended];
  }

  /** Included by the journal, but the chain has not used the nonce: the node lost it, or never had it. */
  async #reopenLost(head: Head): Promise<readonly FollowedStep[]> {
    const suspects = await includedFrom(this.#dependencies.pool, this.#options.lane, head.nextNonce, PASS);
    const found = await Promise.all(suspects.map((attempt) => this.#find(attempt)));
    const lost = suspects.filter((_, i) => found[i] === undefined);
    return this.#move(lost.map((attempt) => step(attempt, "broadcast", undefined)));
  }

  async #noteInclusions(head: Head): Promise<readonly FollowedStep[]> {
    const { pool, faults } = this.#dependencies;
    const unmined = await unminedAttempts(pool, this.#options.lane);
    const used = unmined.filter((attempt) => attempt.nonce < head.nextNonce).slice(0, PASS);
    const inclusions = await Promise.all(used.map((attempt) => this.#find(attempt)));
    const steps: FollowedStep[] = [];
    for (const [i, attempt] of used.entries()) {
      const inclusion = inclusions[i];
      if (inclusion === undefined) continue;
      // With a depth of 0 the receipt just read is the last word.
      if (!this.#isConfirmed(inclusion, head)) steps.push(step(attempt, "mined", inclusion));
      else steps.push(await this.#ended(attempt, inclusion));
    }
    const missing = used.filter((_, i) => inclusions[i] === undefined);
    steps.push(...(await this.#superseded(missing, head)));
    if (steps.length > 0) faults.hit("relayer.inclusion-seen");
    await this.#move(steps);
    if (steps.length > 0) faults.hit("relayer.inclusion-recorded");
    return steps;
  }

  /** The nonce was used by a transaction that the journal does not know, and that can no longer change. */
  async #superseded(missing: readonly Attempt[], head: Head): Promise<readonly FollowedStep[]> {
    if (missing.length === 0) return [];
    const { chain } = this.#dependencies;
    const finalBlock = Math.max(0, head.blockNumber - this.#options.confirmations);
    const finalNonce = await chain.nextNonceAt(this.#options.lane.sender, finalBlock);
    return missing
      .filter((attempt) => attempt.nonce < finalNonce)
      .map((attempt) => ({
        ...step(attempt, "superseded", undefined),
        reason: "nonce-used-by-another",
      }));
  }

  /** Mined deep enough: still in the same block, or moved, or gone. */
  async #endConfirmed(head: Head): Promise<readonly FollowedStep[]> {
    const { pool, faults } = this.#dependencies;
    const deepest = head.blockNumber - this.#options.confirmations;
    const mined = await minedAttempts(pool, this.#options.lane, deepest, PASS);
    const inclusions = await Promise.all(mined.map((attempt) => this.#find(attempt)));
    const steps: FollowedStep[] = [];
    for (const [i, attempt] of mined.entries()) {
      const inclusion = inclusions[i];
      if (inclusion === undefined) steps.push(step(attempt, "broadcast", undefined));
      else if (!this.#isConfirmed(inclusion, head)) steps.push(step(attempt, "mined", inclusion));
      else steps.push(await this.#ended(attempt, inclusion));
    }
    if (steps.length > 0) faults.hit("relayer.end-seen");
    await this.#move(steps);
    if (steps.length > 0) faults.hit("relayer.end-recorded");
    return steps;
  }

  #isConfirmed(inclusion: Inclusion, head: Head): boolean {
    return inclusion.blockNumber + this.#options.confirmations <= head.blockNumber;
  }

  async #ended(attempt: Attempt, inclusion: Inclusion): Promise<FollowedStep> {
    if (inclusion.succeeded) return step(attempt, "final", inclusion);
    const { data } = Transaction.from(attempt.transactions.find(({ hash }) => hash === inclusion.hash)!.raw);
    const call = { from: this.#options.lane.sender, to: attempt.contract, data: data as Hex };
    // On the state before its block: what stood before it in the same block is not seen.
    const reason = await this.#dependencies.chain.revertReason(call, inclusion.blockNumber - 1);
    return { ...step(attempt, "reverted", inclusion), reason };
  }

  /** Which of the attempt's transactions is on the chain's current branch. */
  async #find(attempt: Attempt): Promise<Inclusion | undefined> {
    for (const { hash } of attempt.transactions.toReversed()) {
      const inclusion = await this.#dependencies.chain.inclusion(hash);
      if (inclusion !== undefined) return inclusion;
    }
    return undefined;
  }

  async #move(steps: readonly FollowedStep[]): Promise<readonly FollowedStep[]> {
    const { pool, clock } = this.#dependencies;
    await moveAttempts(pool, steps, clock.nowMs());
    return steps;
  }
}

function step(attempt: Attempt, state: AttemptStep["state"], inclusion: Inclusion | undefined): FollowedStep {
  return { attempt, attemptId: attempt.attemptId, was: attempt.state, state, inclusion };
}

/** The hash under which a step's transaction is known. */
export function transactionHash(step: FollowedStep): Hex {
  return step.inclusion?.hash ?? step.attempt.transactions.at(-1)!.hash;
}

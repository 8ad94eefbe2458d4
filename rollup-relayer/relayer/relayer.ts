import type { Logger } from "pino";
import { Counter, Gauge, type Registry } from "prom-client";
import type { SettlementClient } from "../../contracts/client.ts";
import type { Hex, SettlementDomain } from "../../domain/settlement/settlement.ts";
import {
  type Attempt,
  type Lane,
  moveAttempts,
  otherContracts,
  unminedAttempts,
} from "../../ledger/attempts.ts";
import { ATTESTATIONS_CHANNEL } from "../../ledger/attestations.ts";
import { BATCHES_CHANNEL, type BatchKey } from "../../ledger/batches.ts";
import type { Clock } from "../../service/clock.ts";
import { type Listener, type Pool, listen } from "../../service/database.ts";
import { GridrootError } from "../../service/errors.ts";
import type { FaultPoints } from "../../service/faults.ts";
import type { Service } from "../../service/lifecycle.ts";
import { Pacer } from "../pacer.ts";
import type { Signer } from "../signer.ts";
import { Chain, type ChainProvider, type SendOutcome } from "./chain.ts";
import { type FollowedStep, Follower, transactionHash } from "./follower.ts";
import { type Posted, Poster } from "./poster.ts";

/** Where a crash test may kill the relayer, in the order in which a settlement passes them. */
export const RELAYER_FAULT_POINTS = [
  "relayer.signed",
  "relayer.journalling",
  "relayer.journalled",
  "relayer.sending",
  "relayer.sent",
  "relayer.broadcast-recorded",
  "relayer.inclusion-seen",
  "relayer.inclusion-recorded",
  "relayer.end-seen",
  "relayer.end-recorded",
] as const;

export interface RelayerOptions {
  /** Chain and contract that are posted to. */
  readonly domain: SettlementDomain;
  /** Connection string of the ledger for LISTEN; not through a pooler. */
  readonly listenUrl: string;
  /** Blocks on top of a transaction's own until it is final. */
  readonly confirmations: number;
  /** Transactions signed and not mined, of all regions. */
  readonly maxInFlight: number;
  readonly maxInFlightPerRegion: number;
  /** Above this, per gas, nothing is posted. */
  readonly maxFeeCeilingWei: bigint;
  /** How much more than estimated a transaction may use, in percent. */
  readonly gasMarginPercent: number;
  /** Pause between two looks while nothing is announced. */
  readonly pollMs: number;
  /** The longest pause after failures. */
  readonly maxBackoffMs: number;
  /** For one call of the node. */
  readonly rpcTimeoutMs: number;
  /** After this a transaction that is not mined is sent again. */
  readonly resendMs: number;
  /** How long a region waits after the chain would refuse its next batch. */
  readonly retryRefusedMs: number;
}

/** A settlement that came one step further. */
export interface SettlementNotice extends BatchKey {
  readonly transactionHash: Hex;
  readonly blockNumber: number;
}

export interface RelayerDependencies {
  /** Of the ledger. */
  readonly pool: Pool;
  readonly provider: ChainProvider;
  readonly client: SettlementClient;
  readonly signer: Signer;
  readonly log: Logger;
  readonly metrics: Registry;
  readonly faults: FaultPoints;
  readonly clock: Clock;
  /** From [0, 1), for the jitter of retries. */
  readonly random: () => number;
  /** Called after the ledger knows; not called for what a crash came between. */
  readonly onMined?: ((notice: SettlementNotice) => void) | undefined;
  /** As `onMined`. */
  readonly onFinal?: ((notice: SettlementNotice) => void) | undefined;
}

/**
 * Brings attested batches onto the chain. Each turn first brings the journal to what the chain says, then sends what
 * the journal holds and the chain lacks, then signs what is ready; so a start after a crash is a turn like any other.
 * What was signed is in the ledger before it is sent, one nonce is one attempt, and a batch has one live attempt: it
 * cannot be settled twice, and no nonce is left out.
 */
export class Relayer implements Service {
  readonly name = "relayer";
  readonly #options: RelayerOptions;
  readonly #dependencies: RelayerDependencies;
  readonly #lane: Lane;
  readonly #chain: Chain;
  readonly #follower: Follower;
  readonly #poster: Poster;
  readonly #pacer: Pacer;
  readonly #meters: ReturnType<typeof createMeters>;
  /** When this process last sent an attempt. */
  readonly #sentMs = new Map<bigint, number>();
  #listeners: readonly Listener[] = [];
  #chainChecked = false;

  constructor(options: RelayerOptions, dependencies: RelayerDependencies) {
    this.#options = options;
    this.#dependencies = dependencies;
    this.#lane = { chainId: options.domain.chainId, sender: dependencies.signer.address };
    this.#chain = new Chain({ timeoutMs: options.rpcTimeoutMs }, dependencies);
    const shared = { ...options, lane: this.#lane };
    this.#meters = createMeters(dependencies.metrics);
    this.#follower = new Follower(shared, { ...dependencies, chain: this.#chain });
    this.#poster = new Poster(shared, {
      ...dependencies,
      chain: this.#chain,
      invalidAttestation: () => this.#meters.invalidAttestations.inc(),
    });
    this.#pacer = new Pacer(
      { idleMs: options.pollMs, maxBackoffMs: options.maxBackoffMs },
      {
        turn: () => this.#turn(),
        failed: (error) => this.#reportFailure(error),
        random: dependencies.random,
      },
    );
  }

  /** Rejects with `journal-of-another-contract` where the ledger was used with another deployment of this chain. */
  async start(): Promise<void> {
    const { pool, log } = this.#dependencies;
    const { domain, listenUrl } = this.#options;
    const [other] = await otherContracts(pool, domain.chainId, domain.verifyingContract);
    if (other !== undefined) {
      throw new GridrootError(
        "journal-of-another-contract",
        `the ledger holds settlements of ${other} on chain ${domain.chainId}`,
      );
    }
    const listeners: Listener[] = [];
    this.#listeners = listeners;
    for (const channel of [BATCHES_CHANNEL, ATTESTATIONS_CHANNEL]) {
      listeners.push(await listen(listenUrl, channel, () => this.#pacer.wake()));
    }
    log.info({ sender: this.#lane.sender, contract: domain.verifyingContract }, "relayer started");
    this.#pacer.start();
  }

  /** Ends the turn in hand; what is under way is in the journal. */
  async stop(): Promise<void> {
    await this.#pacer.stop();
    await Promise.all(this.#listeners.map((listener) => listener.stop()));
    this.#listeners = [];
  }

  /** True where something changed, so that there may be more to do. */
  async #turn(): Promise<boolean> {
    const { pool } = this.#dependencies;
    if (!this.#chainChecked) await this.#checkChain();
    const head = await this.#chain.head(this.#lane.sender);
    const steps = await this.#follower.follow(head);
    this.#report(steps);
    const open = await unminedAttempts(pool, this.#lane);
    this.#forgetSent(open);
    await this.#broadcast(open.filter((attempt) => this.#isDue(attempt)));
    if (this.#pacer.stopping) return false;
    const posted = await this.#poster.post(head, open.length);
    this.#reportPosted(posted, open.length);
    if (posted.signed > 0) {
      const signed = await unminedAttempts(pool, this.#lane);
      await this.#broadcast(signed.filter((attempt) => this.#isDue(attempt)));
    }
    return steps.length > 0 || posted.signed > 0 || posted.settledExternally > 0;
  }

  async #checkChain(): Promise<void> {
    const chainId = await this.#chain.chainId();
    if (chainId !== this.#options.domain.chainId) {
      throw new GridrootError("wrong-chain", `the node is of chain ${chainId}`);
    }
    this.#chainChecked = true;
  }

  #isDue(attempt: Attempt): boolean {
    const sentMs = this.#sentMs.get(attempt.attemptId);
    return sentMs === undefined || this.#dependencies.clock.nowMs() - sentMs >= this.#options.resendMs;
  }

  #forgetSent(open: readonly Attempt[]): void {
    const ids = new Set(open.map((attempt) => attempt.attemptId));
    for (const id of this.#sentMs.keys()) if (!ids.has(id)) this.#sentMs.delete(id);
  }

  /** Sends stored bytes in the order of their nonces, then records which the node took. */
  async #broadcast(attempts: readonly Attempt[]): Promise<void> {
    const { pool, faults, clock } = this.#dependencies;
    const taken: Attempt[] = [];
    try {
      for (const attempt of attempts) {
        if (this.#pacer.stopping) break;
        faults.hit("relayer.sending");
        const outcome = await this.#chain.send(attempt.transactions.at(-1)!.raw);
        faults.hit("relayer.sent");
        this.#meters.sends.inc({ outcome });
        // The rest waits for the nonce that is missing: the next turn sends from the lowest on.
        if (outcome === "nonce-gap") break;
        this.#sentMs.set(attempt.attemptId, clock.nowMs());
        taken.push(attempt);
        this.#warnOfRival(attempt, outcome);
      }
    } finally {
      const fresh = taken.filter((attempt) => attempt.state === "signed");
      const steps = fresh.map(({ attemptId }) => ({
        attemptId,
        was: "signed" as const,
        state: "broadcast" as const,
        inclusion: undefined,
      }));
      await moveAttempts(pool, steps, clock.nowMs());
      if (steps.length > 0) faults.hit("relayer.broadcast-recorded");
    }
  }

  #warnOfRival(attempt: Attempt, outcome: SendOutcome): void {
    if (outcome !== "underpriced") return;
    this.#dependencies.log.warn({ nonce: attempt.nonce }, "pool holds another transaction of this nonce");
  }

  #report(steps: readonly FollowedStep[]): void {
    const { log, onMined, onFinal } = this.#dependencies;
    for (const step of steps) {
      const hash = transactionHash(step);
      const fields = { nonce: step.attempt.nonce, transactionHash: hash, reason: step.reason };
      if (step.state === "broadcast") {
        this.#sentMs.delete(step.attemptId);
        log.warn({ ...fields, was: step.attempt.state }, "transaction is no longer on the chain, sent again");
      } else if (step.state === "reverted" || step.state === "superseded") {
        log.error(fields, "transaction settled nothing");
      }
      const state = step.inclusion?.succeeded === false && step.state === "mined" ? "failed" : step.state;
      this.#meters.transitions.inc({ state });
      if (step.inclusion !== undefined && step.attempt.inclusion === undefined) {
        this.#meters.gasUsed.inc(Number(step.inclusion.gasUsed));
      }
      const settled = step.inclusion?.succeeded === true ? step.inclusion : undefined;
      if (settled === undefined) continue;
      for (const settlement of step.attempt.settlements) {
        const notice = { ...settlement, transactionHash: hash, blockNumber: settled.blockNumber };
        if (step.attempt.inclusion === undefined) onMined?.(notice);
        if (step.state === "final") onFinal?.(notice);
      }
    }
  }

  #reportPosted(posted: Posted, unmined: number): void {
    this.#meters.transitions.inc({ state: "signed" }, posted.signed);
    this.#meters.transitions.inc({ state: "settled-externally" }, posted.settledExternally);
    this.#meters.refusedRegions.set(posted.refusedRegions);
    this.#meters.inFlight.set(unmined + posted.signed);
  }

  #reportFailure(error: unknown): void {
    const code = error instanceof GridrootError ? error.code : "unexpected";
    this.#meters.failures.inc({ code });
    this.#dependencies.log.warn({ err: error, code }, "relaying failed and is repeated");
  }
}

function createMeters(metrics: Registry): {
  transitions: Counter<"state">;
  sends: Counter<"outcome">;
  failures: Counter<"code">;
  invalidAttestations: Counter;
  gasUsed: Counter;
  inFlight: Gauge;
  refusedRegions: Gauge;
} {
  const registers = [metrics];
  return {
    transitions: new Counter({
      name: "relayer_transitions_total",
      help: "Settlements that came into a state",
      labelNames: ["state"],
      registers,
    }),
    sends: new Counter({
      name: "relayer_sends_total",
      help: "Raw transactions handed to the node, by its answer",
      labelNames: ["outcome"],
      registers,
    }),
    failures: new Counter({
      name: "relayer_failures_total",
      help: "Turns that failed and are repeated, by error code",
      labelNames: ["code"],
      registers,
    }),
    invalidAttestations: new Counter({
      name: "relayer_invalid_attestations_total",
      help: "Stored attestations that did not verify",
      registers,
    }),
    gasUsed: new Counter({
      name: "relayer_gas_used_total",
      help: "Gas used by the relayer's transactions, failed ones included",
      registers,
    }),
    inFlight: new Gauge({
      name: "relayer_in_flight_transactions",
      help: "Transactions signed and not mined",
      registers,
    }),
    refusedRegions: new Gauge({
      name: "relayer_refused_regions",
      help: "Regions whose next batch the chain would refuse",
      registers,
    }),
  };
}

import type { Logger } from "pino";
import { Counter, Gauge, type Registry } from "prom-client";
import type { SettlementClient } from "../../contracts/client.ts";
import type { AgreedTerms } from "../../domain/settlement/evidence-verification.ts";
import { type Keccak, createHasher } from "../../domain/settlement/hasher.ts";
import type { SettlementDomain } from "../../domain/settlement/settlement.ts";
import type { Clock } from "../../service/clock.ts";
import type { Pool } from "../../service/database.ts";
import { GridrootError, invariant } from "../../service/errors.ts";
import type { FaultPoints } from "../../service/faults.ts";
import type { Service } from "../../service/lifecycle.ts";
import { type Signer, signRefusal, signSettlement } from "../signer.ts";
import { Pacer } from "../pacer.ts";
import { BatchSource, type OfferedBatch } from "./batch-source.ts";
import { type Judgement, type Situation, type VerifiedBatch, judge } from "./judgement.ts";
import { AuthorityStore, type Verdict, placeKey } from "./store.ts";

/** Where a crash test may kill an authority. */
export const AUTHORITY_FAULT_POINTS = [
  "authority.evidence-kept",
  "authority.judged",
  "authority.intent-committed",
  "authority.signed",
  "authority.verdict-kept",
  "authority.delivered",
] as const;

export interface AuthorityOptions {
  /** For logs: `pea`. */
  readonly name: string;
  /** Scheme, host and port of the API. */
  readonly apiUrl: string;
  /** Pause between two looks at the API while there is nothing to do. */
  readonly pollMs: number;
  /** The longest pause after failures. */
  readonly maxBackoffMs: number;
  /** For one request to the API. */
  readonly timeoutMs: number;
  readonly maxEvidenceBytes: number;
  /** The deployment that is signed for. */
  readonly domain: SettlementDomain;
  /** What this authority agreed to, by region number. A region that is missing is refused. */
  readonly terms: ReadonlyMap<number, AgreedTerms>;
  /** Schema of its own store. */
  readonly storeSchema: string;
}

export interface AuthorityDependencies {
  /** Of the authority's own database. */
  readonly pool: Pool;
  readonly signer: Signer;
  readonly client: SettlementClient;
  readonly fetch: typeof fetch;
  readonly log: Logger;
  readonly metrics: Registry;
  readonly faults: FaultPoints;
  readonly clock: Clock;
  /** From [0, 1), for the jitter of retries. */
  readonly random: () => number;
}

const PAGE = 100;

/**
 * One grid authority: looks for batches it has not attested, recomputes each from its evidence, and hands in its
 * signature or a refusal. It trusts neither the API nor whoever sealed the batch. It attests a region's batches in
 * order and different regions independently; it may die at any point and repeat, and never signs two contents for
 * one (region, round, interval).
 */
export class Authority implements Service {
  readonly name: string;
  readonly #options: AuthorityOptions;
  readonly #dependencies: AuthorityDependencies;
  readonly #log: Logger;
  readonly #store: AuthorityStore;
  readonly #source: BatchSource;
  readonly #pacer: Pacer;
  readonly #verdicts: Counter<"verdict">;
  readonly #waiting: Gauge;
  readonly #failures: Counter<"code">;
  #hasher: Keccak | undefined;

  constructor(options: AuthorityOptions, dependencies: AuthorityDependencies) {
    this.name = `authority-${options.name}`;
    this.#options = options;
    this.#dependencies = dependencies;
    this.#log = dependencies.log.child({ authority: options.name });
    const authority = dependencies.signer.address;
    this.#store = new AuthorityStore(
      { authority, domain: options.domain, schema: options.storeSchema },
      { pool: dependencies.pool },
    );
    this.#source = new BatchSource({ ...options, authority }, { fetch: dependencies.fetch });
    const registers = [dependencies.metrics];
    this.#verdicts = new Counter({
      name: "authority_verdicts_total",
      help: "Batches judged: `signed`, or the reason of the refusal",
      labelNames: ["verdict"],
      registers,
    });
    this.#waiting = new Gauge({
      name: "authority_waiting_regions",
      help: "Regions whose oldest batch cannot be judged yet, at the last look",
      registers,
    });
    this.#failures = new Counter({
      name: "authority_failures_total",
      help: "Looks that failed and are repeated, by error code",
      labelNames: ["code"],
      registers,
    });
    this.#pacer = new Pacer(
      { idleMs: options.pollMs, maxBackoffMs: options.maxBackoffMs },
      {
        turn: () => this.#attestPending(),
        failed: (error) => this.#reportFailure(error),
        random: dependencies.random,
      },
    );
  }

  /** Brings the store up to date and begins. */
  async start(): Promise<void> {
    await AuthorityStore.migrate(this.#dependencies.pool, this.#options.storeSchema);
    this.#hasher = await createHasher();
    this.#log.info({ address: this.#dependencies.signer.address }, "authority started");
    this.#pacer.start();
  }

  /** Finishes the batches in hand. */
  async stop(): Promise<void> {
    await this.#pacer.stop();
  }

  /** One look: true where a full page says that there is more. */
  async #attestPending(): Promise<boolean> {
    const { client, signer } = this.#dependencies;
    const set = await client.readAuthoritySet();
    if (!set.members.includes(signer.address)) {
      throw new GridrootError("authority-not-member", "the key is not of the current set", {
        retryable: true,
      });
    }
    const pending = await this.#source.pending(PAGE);
    const regions = [...Map.groupBy(pending, (batch) => batch.content.region).values()];
    const outcomes = await Promise.allSettled(
      regions.map((batches) => this.#attestRegion(batches, set.epoch)),
    );
    const attested = outcomes.map((outcome) => (outcome.status === "fulfilled" ? outcome.value : 0));
    this.#waiting.set(regions.filter((batches, i) => attested[i]! < batches.length).length);
    const progress = attested.some((count) => count > 0);
    const failure = outcomes.find((outcome) => outcome.status === "rejected");
    // A region that fails holds up the others only where nothing else goes on.
    if (failure !== undefined && !progress) throw failure.reason;
    if (failure !== undefined) this.#reportFailure(failure.reason);
    return progress;
  }

  /** Attests a region's batches in order until one has to wait; returns how many. */
  async #attestRegion(batches: readonly OfferedBatch[], epoch: number): Promise<number> {
    const known = await this.#store.knownOf(batches, epoch);
    const terms = this.#options.terms.get(batches[0]!.content.region);
    const tip = terms && (await this.#dependencies.client.readTip(batches[0]!.content.region));
    let last: VerifiedBatch | undefined;
    let attested = 0;
    for (const batch of batches) {
      if (this.#pacer.stopping) break;
      let verdict = known.verdicts.get(batch.contentHash);
      if (verdict === undefined) {
        const bound = known.intents.get(placeKey(batch.content));
        const judgement = await this.#judge(batch, terms && tip && { terms, tip, bound, last });
        if (judgement.kind === "wait") {
          this.#log.debug({ ...place(batch), reason: judgement.reason }, "batch has to wait");
          break;
        }
        verdict = await this.#decide(batch, judgement, epoch);
        last =
          judgement.kind === "sign" && judgement.file !== undefined
            ? { content: batch.content, file: judgement.file }
            : undefined;
      }
      await this.#source.deliver(batch, verdict);
      this.#dependencies.faults.hit("authority.delivered");
      attested += 1;
    }
    return attested;
  }

  async #judge(batch: OfferedBatch, situation: Situation | undefined): Promise<Judgement> {
    if (situation === undefined) return { kind: "refuse", reason: "region-unknown" };
    invariant(this.#hasher !== undefined, "the authority is started");
    const { clock, faults } = this.#dependencies;
    const dependencies = { store: this.#store, source: this.#source, hasher: this.#hasher, clock, faults };
    return judge(batch, situation, dependencies);
  }

  /** Turns a judgement into a signed verdict and keeps it; the key is used after the intent is durable. */
  async #decide(
    batch: OfferedBatch,
    judgement: Exclude<Judgement, { kind: "wait" }>,
    epoch: number,
  ): Promise<Verdict> {
    const { signer, clock, faults } = this.#dependencies;
    const { content, contentHash } = batch;
    faults.hit("authority.judged");
    let refusal: string | undefined = judgement.kind === "refuse" ? judgement.reason : undefined;
    if (refusal === undefined) {
      const bound = await this.#store.commitIntent(content, contentHash, clock.nowMs());
      faults.hit("authority.intent-committed");
      if (bound !== contentHash) refusal = "conflicting-batch";
    }
    const signature =
      refusal === undefined
        ? await signSettlement(signer, this.#options.domain, { ...content, authoritySetEpoch: epoch })
        : await signRefusal(signer, contentHash, refusal);
    faults.hit("authority.signed");
    const verdict: Verdict = { contentHash, authoritySetEpoch: epoch, refusal, signature };
    await this.#store.keepVerdict(content, verdict, clock.nowMs());
    faults.hit("authority.verdict-kept");
    this.#verdicts.inc({ verdict: refusal ?? "signed" });
    if (refusal !== undefined) this.#log.warn({ ...place(batch), reason: refusal }, "batch refused");
    return verdict;
  }

  #reportFailure(error: unknown): void {
    const code = error instanceof GridrootError ? error.code : "unexpected";
    this.#failures.inc({ code });
    this.#log.warn({ err: error, code }, "look at pending batches failed and is repeated");
  }
}

function place(batch: OfferedBatch): { region: string; round: number; interval: number } {
  return { region: batch.region, round: batch.content.round, interval: batch.content.interval };
}

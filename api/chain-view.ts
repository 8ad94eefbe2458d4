import type { SettlementContent } from "../domain/settlement/message.ts";
import type { Hex, SettlementDomain } from "../domain/settlement/settlement.ts";
import type { Clock } from "../service/clock.ts";
import { GridrootError } from "../service/errors.ts";
import { Problem } from "./problem.ts";

/** Whose signatures count, and under which epoch. */
export interface CurrentAuthorities {
  readonly epoch: number;
  /** Lower case. */
  readonly members: readonly Hex[];
}

/** What the API asks of the settlement contract. Every method may reject with a retryable error. */
export interface ChainView {
  /** The deployment that is signed for and claimed from. */
  readonly domain: SettlementDomain;
  authoritySet(): Promise<CurrentAuthorities>;
  /** Whether the contract holds exactly this settlement now. */
  isAccepted(content: SettlementContent): Promise<boolean>;
}

/** The chain, or 503 where the program was started without one. */
export function requireChain(chain: ChainView | undefined): ChainView {
  if (chain === undefined) throw new Problem(503, "chain-not-configured", "there is no settlement contract");
  return chain;
}

const FRESH_MS = 5_000;
const RETRY_MS = 1_000;

/**
 * The authority set, read from the chain at most every 5 s, and at most every second where somebody names another
 * epoch: requests do not become calls to the chain one by one.
 */
export class AuthoritySetCache {
  readonly #chain: ChainView | undefined;
  readonly #clock: Clock;
  #reading: { readonly atMs: number; readonly set: Promise<CurrentAuthorities> } | undefined;

  constructor(dependencies: { readonly chain: ChainView | undefined; readonly clock: Clock }) {
    this.#chain = dependencies.chain;
    this.#clock = dependencies.clock;
  }

  /** The current set; read anew where `expectedEpoch` is another one. Rejects with `chain-unavailable`. */
  async current(expectedEpoch?: number): Promise<CurrentAuthorities> {
    const set = await this.#read(FRESH_MS);
    return expectedEpoch === undefined || set.epoch === expectedEpoch ? set : this.#read(RETRY_MS);
  }

  async #read(freshMs: number): Promise<CurrentAuthorities> {
    const chain = requireChain(this.#chain);
    const nowMs = this.#clock.nowMs();
    // A clock that somebody sets back makes the reading look young for ever; that counts as old.
    const ageMs = this.#reading === undefined ? Number.NaN : nowMs - this.#reading.atMs;
    if (this.#reading === undefined || !(ageMs >= 0 && ageMs < freshMs)) {
      this.#reading = { atMs: nowMs, set: chain.authoritySet() };
    }
    const reading = this.#reading;
    try {
      return await reading.set;
    } catch (cause) {
      if (this.#reading === reading) this.#reading = undefined;
      throw new GridrootError("chain-unavailable", "the authority set cannot be read", {
        retryable: true,
        cause,
      });
    }
  }
}

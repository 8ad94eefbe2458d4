import { pino } from "pino";
import { Registry } from "prom-client";
import type { Batch } from "../../domain/settlement/batch.ts";
import type { Evidence } from "../../domain/settlement/evidence.ts";
import type { SettlementDomain } from "../../domain/settlement/settlement.ts";
import { recordAttestation } from "../../ledger/attestations.ts";
import {
  Relayer,
  type RelayerDependencies,
  type RelayerOptions,
} from "../../rollup-relayer/relayer/relayer.ts";
import { type Signer, privateKeySigner, signSettlement } from "../../rollup-relayer/signer.ts";
import { systemClock } from "../../service/clock.ts";
import type { Pool } from "../../service/database.ts";
import { noFaults } from "../../service/faults.ts";
import { seedBatch } from "./seeded-ledger.ts";
import { TEST_AUTHORITIES, TEST_START_INTERVAL, type TestChain, testKey } from "./test-chain.ts";

/** The epoch of the set that a deployment begins with. */
const FIRST_EPOCH = 1;

/** A region's chain of real batches in the ledger, which grows by a batch at a time. */
export class RegionChain {
  readonly batches: Batch[] = [];
  readonly #pool: Pool;
  readonly #region: number;

  constructor(pool: Pool, region: number) {
    this.#pool = pool;
    this.#region = region;
  }

  /** Seals the next batch: every meter has been credited its number times the batches so far. */
  async seal(): Promise<Batch> {
    const previous: Evidence | undefined = this.batches.at(-1)?.evidence;
    const batch = await seedBatch(this.#pool, previous, {
      region: this.#region,
      interval: (previous?.interval ?? TEST_START_INTERVAL) + 900,
      meters: [1, 2, 3].map((n) => 100 * this.#region + n),
      scale: BigInt(this.batches.length + 1),
    });
    this.batches.push(batch);
    return batch;
  }

  /** Seals that many and has two authorities sign each. */
  async sealAttested(domain: SettlementDomain, count: number): Promise<void> {
    for (let i = 0; i < count; i += 1) await attest(this.#pool, domain, await this.seal());
  }
}

/** Stores these authorities' signatures of a batch; by default those of the first two. */
export async function attest(
  pool: Pool,
  domain: SettlementDomain,
  batch: Batch,
  signers: readonly Signer[] = TEST_AUTHORITIES.slice(0, 2),
): Promise<void> {
  const { region: regionId, round, interval } = batch.content;
  for (const signer of signers) {
    const settlement = { ...batch.content, authoritySetEpoch: FIRST_EPOCH };
    const signature = await signSettlement(signer, domain, settlement);
    await recordAttestation(pool, {
      ...{ regionId, round, interval, authority: signer.address, authoritySetEpoch: FIRST_EPOCH },
      ...{ signature, refusal: undefined, receivedMs: Date.now() },
    });
  }
}

/** A relayer over a test chain, in a hurry. */
export function testRelayer(
  chain: Pick<TestChain, "provider" | "client" | "domain">,
  ledger: { readonly pool: Pool; readonly url: string },
  options: Partial<RelayerOptions> = {},
  dependencies: Partial<RelayerDependencies> = {},
): Relayer {
  return new Relayer(
    {
      domain: chain.domain,
      listenUrl: ledger.url,
      confirmations: 0,
      maxInFlight: 64,
      maxInFlightPerRegion: 16,
      maxFeeCeilingWei: 10n ** 12n,
      gasMarginPercent: 30,
      pollMs: 50,
      maxBackoffMs: 500,
      rpcTimeoutMs: 5_000,
      resendMs: 200,
      retryRefusedMs: 100,
      ...options,
    },
    {
      pool: ledger.pool,
      provider: chain.provider,
      client: chain.client,
      signer: privateKeySigner(testKey("relayer")),
      log: pino({ level: process.env["GRIDROOT_TEST_LOG"] ?? "silent" }),
      metrics: new Registry(),
      faults: noFaults,
      clock: systemClock,
      random: () => 0.99,
      ...dependencies,
    },
  );
}

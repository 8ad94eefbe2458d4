import { promisify } from "node:util";
import { zstdCompress, zstdDecompress } from "node:zlib";
import type { SettlementContent } from "../../domain/settlement/message.ts";
import type { Hex, SettlementDomain } from "../../domain/settlement/settlement.ts";
import { bytesOf, hexOf } from "../../ledger/batches.ts";
import type { Pool } from "../../service/database.ts";
import { migrate } from "../../service/migrate.ts";

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);

/** A batch this authority has verified and may sign, and no other in its place. */
export interface Intent {
  readonly contentHash: Hex;
  readonly root: Hex;
  readonly dataHash: Hex;
}

/** What the authority says of a batch; `refusal` is `undefined` where it signs the settlement. */
export interface Verdict {
  readonly contentHash: Hex;
  readonly authoritySetEpoch: number;
  readonly refusal: string | undefined;
  readonly signature: Hex;
}

/** The statements of an authority's own store, for one key on one deployment. */
export class AuthorityStore {
  readonly #pool: Pool;
  readonly #schema: string;
  readonly #scope: readonly [Buffer, number, Buffer];

  constructor(
    options: { readonly authority: Hex; readonly domain: SettlementDomain; readonly schema: string },
    dependencies: { readonly pool: Pool },
  ) {
    this.#pool = dependencies.pool;
    this.#schema = options.schema;
    const { chainId, verifyingContract } = options.domain;
    this.#scope = [bytesOf(options.authority), chainId, bytesOf(verifyingContract.toLowerCase() as Hex)];
  }

  /** Brings a schema up to date; see `migrate`. */
  static migrate(pool: Pool, schema: string): Promise<void> {
    return migrate(pool, schema, new URL("migrations/", import.meta.url));
  }

  /** Keeps a file as fetched. Idempotent. */
  async keepEvidence(
    batch: Pick<SettlementContent, "region" | "round" | "interval">,
    dataHash: Hex,
    file: Uint8Array,
    nowMs: number,
  ): Promise<void> {
    await this.#pool.query(
      `insert into ${this.#schema}.evidence (region_id, round, interval_end, data_hash, file_zstd, stored_ms)
       values ($1, $2, $3, $4, $5, $6) on conflict do nothing`,
      [batch.region, batch.round, batch.interval, bytesOf(dataHash), await compress(file), nowMs],
    );
  }

  /** A kept file. */
  async findEvidence(
    region: number,
    round: number,
    interval: number,
    dataHash: Hex,
  ): Promise<Buffer | undefined> {
    const result = await this.#pool.query<{ file_zstd: Buffer }>(
      `select file_zstd from ${this.#schema}.evidence
        where region_id = $1 and round = $2 and interval_end = $3 and data_hash = $4`,
      [region, round, interval, bytesOf(dataHash)],
    );
    return result.rows[0] === undefined ? undefined : decompress(result.rows[0].file_zstd);
  }

  /** What this key has bound itself to for a batch. */
  async findIntent(region: number, round: number, interval: number): Promise<Intent | undefined> {
    const result = await this.#pool.query<{ content_hash: Buffer; root: Buffer; data_hash: Buffer }>(
      `select content_hash, root, data_hash from ${this.#schema}.intent
        where authority = $1 and chain_id = $2 and contract = $3
          and region_id = $4 and round = $5 and interval_end = $6`,
      [...this.#scope, region, round, interval],
    );
    const row = result.rows[0];
    if (row === undefined) return undefined;
    return {
      contentHash: hexOf(row.content_hash),
      root: hexOf(row.root),
      dataHash: hexOf(row.data_hash),
    };
  }

  /**
   * Binds this key to a content, durably, before it signs. Returns the content it is bound to: another one where a
   * process of the same key came first. Idempotent.
   */
  async commitIntent(content: SettlementContent, contentHash: Hex, nowMs: number): Promise<Hex> {
    const { region, round, interval } = content;
    const result = await this.#pool.query(
      `insert into ${this.#schema}.intent (authority, chain_id, contract, region_id, round, interval_end, content_hash, root,
                           data_hash, committed_ms)
       values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) on conflict do nothing`,
      [
        ...this.#scope,
        ...[region, round, interval],
        ...[bytesOf(contentHash), bytesOf(content.root), bytesOf(content.dataHash), nowMs],
      ],
    );
    if (result.rowCount === 1) return contentHash;
    return (await this.findIntent(region, round, interval))!.contentHash;
  }

  /** What this key has said of these contents in this epoch, and what it is bound to in their places. */
  async knownOf(
    batches: readonly { readonly content: SettlementContent; readonly contentHash: Hex }[],
    authoritySetEpoch: number,
  ): Promise<{ verdicts: ReadonlyMap<Hex, Verdict>; intents: ReadonlyMap<string, Hex> }> {
    const verdicts = await this.#pool.query<{
      content_hash: Buffer;
      refusal: string | null;
      signature: Buffer;
    }>(
      `select content_hash, refusal, signature from ${this.#schema}.verdict
        where authority = $1 and chain_id = $2 and contract = $3 and content_hash = any($4)
          and authority_set_epoch = $5`,
      [...this.#scope, batches.map((batch) => bytesOf(batch.contentHash)), authoritySetEpoch],
    );
    const intents = await this.#pool.query<{
      region_id: number;
      round: number;
      interval_end: bigint;
      content_hash: Buffer;
    }>(
      `select region_id, round, interval_end, content_hash from ${this.#schema}.intent
         join unnest($4::integer[], $5::integer[], $6::bigint[]) as wanted (region_id, round, interval_end)
           using (region_id, round, interval_end)
        where authority = $1 and chain_id = $2 and contract = $3`,
      [
        ...this.#scope,
        batches.map((batch) => batch.content.region),
        batches.map((batch) => batch.content.round),
        batches.map((batch) => batch.content.interval),
      ],
    );
    return {
      verdicts: new Map(
        verdicts.rows.map((row) => {
          const contentHash = hexOf(row.content_hash);
          const refusal = row.refusal ?? undefined;
          return [contentHash, { contentHash, authoritySetEpoch, refusal, signature: hexOf(row.signature) }];
        }),
      ),
      intents: new Map(
        intents.rows.map((row) => [
          placeKey({ region: row.region_id, round: row.round, interval: Number(row.interval_end) }),
          hexOf(row.content_hash),
        ]),
      ),
    };
  }

  /** Keeps a verdict before it is delivered. The first one stands. */
  async keepVerdict(
    batch: Pick<SettlementContent, "region" | "round" | "interval">,
    verdict: Verdict,
    nowMs: number,
  ): Promise<void> {
    await this.#pool.query(
      `insert into ${this.#schema}.verdict (authority, chain_id, contract, region_id, round, interval_end, content_hash,
                            authority_set_epoch, refusal, signature, decided_ms)
       values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) on conflict do nothing`,
      [
        ...this.#scope,
        batch.region,
        batch.round,
        batch.interval,
        bytesOf(verdict.contentHash),
        verdict.authoritySetEpoch,
        verdict.refusal ?? null,
        bytesOf(verdict.signature),
        nowMs,
      ],
    );
  }
}

/** A batch's place as a key of a map. */
export function placeKey(place: Pick<SettlementContent, "region" | "round" | "interval">): string {
  return `${place.region}/${place.round}/${place.interval}`;
}

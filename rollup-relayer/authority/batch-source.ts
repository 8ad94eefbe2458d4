import { type SettlementContent, contentHash } from "../../domain/settlement/message.ts";
import { isHex } from "../../domain/settlement/hex.ts";
import type { Hex } from "../../domain/settlement/settlement.ts";
import { wh } from "../../domain/metering/units.ts";
import { GridrootError } from "../../service/errors.ts";
import type { Verdict } from "./store.ts";

/** A batch as the API tells it: nothing of it is trusted. */
export interface OfferedBatch {
  /** The region's name, for addresses of the API. */
  readonly region: string;
  readonly content: SettlementContent;
  /** Recomputed here. */
  readonly contentHash: Hex;
}

/** Where the API is and how much of its answers is read. */
export interface BatchSourceOptions {
  /** Scheme, host and port, without a path. */
  readonly apiUrl: string;
  readonly authority: Hex;
  readonly timeoutMs: number;
  /** An evidence file above this is an error. */
  readonly maxEvidenceBytes: number;
}

const MAX_LIST_BYTES = 4 * 2 ** 20;

/** The part of the API that an authority uses. Every method rejects with `api-failed`, retryable, when it cannot. */
export class BatchSource {
  readonly #options: BatchSourceOptions;
  readonly #fetch: typeof fetch;

  constructor(options: BatchSourceOptions, dependencies: { readonly fetch: typeof fetch }) {
    this.#options = options;
    this.#fetch = dependencies.fetch;
  }

  /** Batches this authority has not attested in the current epoch, oldest first within a region. */
  async pending(limit: number): Promise<readonly OfferedBatch[]> {
    const path = `/api/v1/authorities/${this.#options.authority}/pending?limit=${limit}`;
    const body = await this.#get(path, MAX_LIST_BYTES);
    const list: unknown = parseJson(body);
    if (!Array.isArray(list)) throw failed("the list of pending batches is no array");
    return list.map(parseBatch);
  }

  /** The octets of an evidence file, decompressed. */
  async evidence(region: string, round: number, interval: number): Promise<Uint8Array> {
    const path = `/api/v1/batches/${encodeURIComponent(region)}/${interval}/evidence?round=${round}`;
    return this.#get(path, this.#options.maxEvidenceBytes);
  }

  /** Hands in a verdict. Repeating it changes nothing. */
  async deliver(batch: OfferedBatch, verdict: Verdict): Promise<void> {
    const { round, interval } = batch.content;
    const path = `/api/v1/batches/${encodeURIComponent(batch.region)}/${interval}/attestations/${this.#options.authority}`;
    const { authoritySetEpoch, refusal, signature } = verdict;
    const response = await this.#request(path, {
      method: "PUT",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({
        round,
        authoritySetEpoch,
        ...(refusal === undefined ? {} : { refusal }),
        signature,
      }),
    });
    await response.body?.cancel();
    if (!response.ok) throw failed(`PUT ${path}: ${response.status}`);
  }

  async #get(path: string, maxBytes: number): Promise<Uint8Array> {
    const response = await this.#request(path, {});
    if (!response.ok) {
      await response.body?.cancel();
      throw failed(`GET ${path}: ${response.status}`);
    }
    return readAtMost(response, path, maxBytes);
  }

  async #request(path: string, init: RequestInit): Promise<Response> {
    const signal = AbortSignal.timeout(this.#options.timeoutMs);
    try {
      return await this.#fetch(new URL(path, this.#options.apiUrl), { ...init, signal, redirect: "error" });
    } catch (cause) {
      throw failed(`${init.method ?? "GET"} ${path}: ${(cause as Error).message}`, cause);
    }
  }
}

async function readAtMost(response: Response, path: string, maxBytes: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  try {
    for await (const chunk of response.body ?? []) {
      length += chunk.length;
      if (length > maxBytes) throw failed(`GET ${path}: more than ${maxBytes} bytes`);
      chunks.push(chunk);
    }
  } catch (cause) {
    if (cause instanceof GridrootError) throw cause;
    throw failed(`GET ${path}: ${(cause as Error).message}`, cause);
  }
  return Buffer.concat(chunks);
}

function parseJson(body: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(body).toString("utf8"));
  } catch (cause) {
    throw failed("the list of pending batches is no JSON", cause);
  }
}

function parseBatch(item: unknown): OfferedBatch {
  const fields = (typeof item === "object" ? item : null) as Record<string, unknown> | null;
  if (fields === null || typeof fields["region"] !== "string") throw failed("a pending batch has no region");
  const content: SettlementContent = {
    region: count(fields, "regionId"),
    round: count(fields, "round"),
    interval: count(fields, "interval"),
    prevInterval: count(fields, "prevInterval"),
    prevRoot: hash(fields, "prevRoot"),
    root: hash(fields, "root"),
    intervalCreditWh: energy(fields, "intervalCreditWh"),
    cumulativeCreditWh: energy(fields, "cumulativeCreditWh"),
    cumulativeDebitWh: energy(fields, "cumulativeDebitWh"),
    leafCount: count(fields, "leafCount"),
    dataHash: hash(fields, "dataHash"),
  };
  return { region: fields["region"], content, contentHash: contentHash(content) };
}

function count(fields: Record<string, unknown>, name: string): number {
  const value = fields[name];
  const limit = name === "interval" || name === "prevInterval" ? Number.MAX_SAFE_INTEGER : 2 ** 32 - 1;
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0 && value <= limit) return value;
  throw failed(`a pending batch has no ${name}`);
}

function hash(fields: Record<string, unknown>, name: string): Hex {
  const value = fields[name];
  if (isHex(value, 32)) return value;
  throw failed(`a pending batch has no ${name}`);
}

function energy(fields: Record<string, unknown>, name: string): ReturnType<typeof wh> {
  const value = fields[name];
  if (typeof value === "string" && /^(0|[1-9][0-9]{0,19})$/.test(value) && BigInt(value) < 2n ** 64n) {
    return wh(value);
  }
  throw failed(`a pending batch has no ${name}`);
}

function failed(message: string, cause?: unknown): GridrootError {
  return new GridrootError("api-failed", message, { retryable: true, cause });
}

import { decodeReadings } from "../domain/metering/codec.ts";
import { subWh, type Wh, wh, ZERO_WH } from "../domain/metering/units.ts";
import { parseBundle } from "../domain/settlement/bundle-parsing.ts";
import { verifyBundle } from "../domain/settlement/bundle-verification.ts";
import { decodeEvidence } from "../domain/settlement/evidence.ts";
import { createHasher } from "../domain/settlement/hasher.ts";
import type { Hex } from "../domain/settlement/settlement.ts";
import type { EventLog, LogRecord, TopicPartition } from "../event-log/event-log.ts";
import { DEAD_LETTER_TOPIC, INGEST_HEADERS, regionTopic } from "../event-log/topics.ts";
import { findMeter } from "../ledger/meters.ts";
import type { Pool } from "../service/database.ts";
import { GridrootError } from "../service/errors.ts";
import type { ChainAccess } from "./role-process.ts";
import type { Stores } from "./stores.ts";

const PAGE = 1000;
/** Proofs asked for and verified at the same time. */
const PROOFS_AT_ONCE = 16;

/** What stands in a region's topic, counted by reading all of it. */
export interface LoggedReadings {
  readonly appended: number;
  /** Distinct (meter, epoch, seq). */
  readonly distinct: number;
}

/** Reads a region's whole topic and counts its readings. */
export async function countLogged(
  eventLog: EventLog,
  region: string,
  partitions: number,
): Promise<LoggedReadings> {
  const identities = new Set<string>();
  let appended = 0;
  for (let partition = 0; partition < partitions; partition += 1) {
    for await (const record of allRecords(eventLog, { topic: regionTopic(region), partition })) {
      if (record.headers[INGEST_HEADERS.kind] !== "rd") continue;
      const decoded = decodeReadings(record.key, record.value);
      if (!decoded.ok)
        throw new GridrootError("log-unreadable", `offset ${record.offset} of ${region} holds no readings`);
      appended += decoded.readings.length;
      for (const { meterId, epoch, seq } of decoded.readings) identities.add(`${meterId} ${epoch} ${seq}`);
    }
  }
  return { appended, distinct: identities.size };
}

/**
 * Reads all dead letters and counts them by the region of the meter that sent them: as many as a letter holds
 * readings, one where it holds none that can be read.
 */
export async function countDeadLetters(
  eventLog: EventLog,
  ledger: Pool,
): Promise<ReadonlyMap<string, number>> {
  const counts = new Map<string, number>();
  const regions = new Map<string, string>();
  for await (const record of allRecords(eventLog, { topic: DEAD_LETTER_TOPIC, partition: 0 })) {
    const client = record.headers[INGEST_HEADERS.client] ?? "";
    const region = regions.get(client) ?? (await findMeter(ledger, client))?.region ?? "";
    regions.set(client, region);
    const decoded = decodeReadings(client, record.value);
    counts.set(region, (counts.get(region) ?? 0) + (decoded.ok ? decoded.readings.length : 1));
  }
  return counts;
}

async function* allRecords(eventLog: EventLog, from: TopicPartition): AsyncGenerator<LogRecord> {
  const { first, next } = await eventLog.bounds(from);
  for (let offset = first; offset < next;) {
    const page = await eventLog.read(from, offset, PAGE);
    yield* page;
    const last = page.at(-1);
    if (last === undefined)
      throw new GridrootError("log-unreadable", `${from.topic} ends before offset ${next}`);
    offset = last.offset + 1n;
  }
}

/** What the ledger says of a region. */
export interface LedgerFigures {
  /** Unix seconds. */
  readonly sealedUntil: number;
  readonly batches: number;
  /** Credit less debit of the newest batch. */
  readonly creditedWh: Wh;
}

/** Counts a region's batches and takes the newest one's totals. */
export async function ledgerFigures(ledger: Pool, region: string): Promise<LedgerFigures> {
  const result = await ledger.query<{ n: bigint; credited: bigint | null; sealed: bigint | null }>(
    `select count(*) as n, max(region.sealed_until) as sealed,
            (array_agg(cumulative_credit_wh - cumulative_debit_wh order by interval_end desc))[1] as credited
       from ledger.batch join ledger.region using (region_id) where region.name = $1 and voided_ms is null`,
    [region],
  );
  const row = result.rows[0];
  return {
    sealedUntil: Number(row?.sealed ?? 0n),
    batches: Number(row?.n ?? 0n),
    creditedWh: wh(row?.credited ?? 0n),
  };
}

/** What the chain says of a region: accepted settlements by its log, totals by its tip. */
export async function chainFigures(
  chain: ChainAccess,
  regionId: number,
): Promise<{ readonly settlements: number; readonly settledWh: Wh; readonly interval: number }> {
  const settled = await chain.client.readSettled({ fromBlock: 0, toBlock: "latest", region: regionId });
  const tip = await chain.client.readTip(regionId);
  return {
    settlements: settled.length,
    settledWh: settled.length === 0 ? ZERO_WH : subWh(tip.cumulativeCreditWh, tip.cumulativeDebitWh),
    interval: tip.interval,
  };
}

/**
 * Fetches the bundle of every account of a region's batch from the HTTP interface as a customer would, checks it
 * offline with the contract's own authority set, and has the contract check it by call. Resolves with how many there
 * were; rejects with `proof-failed` at the first that fails.
 */
export async function checkProofs(
  dependencies: { stores: Stores; chain: ChainAccess; apiUrl: string },
  region: string,
  interval: number,
): Promise<number> {
  const hasher = await createHasher();
  const { members, threshold } = await dependencies.chain.client.readAuthoritySet();
  const accounts = await accountsOf(dependencies.apiUrl, region, interval);

  async function check(account: Hex): Promise<void> {
    const url = `${dependencies.apiUrl}/api/v1/accounts/${account}/proof?region=${region}&interval=${interval}`;
    const response = await fetch(url);
    const bundle = parseBundle(await response.text());
    const failed = verifyBundle(hasher, bundle, { addresses: members, threshold }).find((one) => !one.passed);
    if (failed !== undefined)
      throw new GridrootError("proof-failed", `${account}: ${failed.name}: ${failed.detail}`);
    const { settlement, record, leaf, siblings } = bundle;
    if (!(await dependencies.chain.client.verifyOnChain(settlement.region, record, leaf, siblings))) {
      throw new GridrootError("proof-failed", `${account}: the contract refuses the proof`);
    }
  }

  for (let first = 0; first < accounts.length; first += PROOFS_AT_ONCE) {
    await Promise.all(accounts.slice(first, first + PROOFS_AT_ONCE).map(check));
  }
  return accounts.length;
}

async function accountsOf(apiUrl: string, region: string, interval: number): Promise<readonly Hex[]> {
  const response = await fetch(`${apiUrl}/api/v1/batches/${region}/${interval}/evidence`);
  if (!response.ok) throw new GridrootError("proof-failed", `no evidence of ${region} ${interval}`);
  return decodeEvidence(new Uint8Array(await response.arrayBuffer())).accounts.map(({ account }) => account);
}

import { readFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import type { Machine } from "../../cli/machine.ts";
import { sealedUntil } from "../../cli/settling.ts";
import { regionTopic } from "../../event-log/topics.ts";
import { GridrootError } from "../../service/errors.ts";
import { INTERVAL_S } from "../../simulators/fleet.ts";
import { RECORDER } from "../../time-series/recorder-balance.ts";
import type { Load } from "./load.ts";

/** Where the pipeline stands at an instant. */
export interface Sample {
  /** When the sample was begun, ms of `performance.now()`. */
  readonly atMs: number;
  /** Records that the recorder has passed. */
  readonly recorded: number;
  /** Publishes that no meter has an acknowledgement of, or that the recorder has not passed. */
  readonly unrecorded: number;
  /** Intervals that the region furthest behind has not sealed, the running one included. */
  readonly unsealed: number;
  /** Sealed batches that are in no block yet. */
  readonly unsettled: number;
}

/** That the pipeline carries the load again. */
export interface Recovery {
  readonly atMs: number;
  /** What was behind until then; empty where nothing was. */
  readonly last: string;
}

/** Resident memory of the roles at an instant; of several processes of a role, that of the largest. */
interface Memory {
  readonly atMs: number;
  readonly bytes: ReadonlyMap<string, number>;
}

/** A pipeline that carries the load is not further behind than this. */
const SECONDS_UNRECORDED = 2;
const INTERVALS_UNSEALED = 4;
const BATCHES_UNSETTLED = 8;

const SAMPLE_EVERY_MS = 250;
const MEMORY_EVERY_MS = 1000;
const PAGE_BYTES = 4096;

/** Watches how far the pipeline is behind the load, and how much memory its roles take. */
export class Monitor {
  readonly #machine: Machine;
  readonly #load: Load;
  readonly #topics: readonly string[];
  readonly #start: number;
  readonly #samples: Sample[] = [];
  readonly #memory: Memory[] = [];
  #ended = false;
  #watching: Promise<unknown> = Promise.resolve();
  #lastError: unknown;

  constructor(
    options: { regions: readonly string[]; start: number },
    dependencies: { machine: Machine; load: Load },
  ) {
    this.#machine = dependencies.machine;
    this.#load = dependencies.load;
    this.#topics = options.regions.map(regionTopic);
    this.#start = options.start;
  }

  start(): void {
    this.#watching = Promise.all([this.#watch(), this.#watchMemory()]);
  }

  async stop(): Promise<void> {
    this.#ended = true;
    await this.#watching;
  }

  get samples(): readonly Sample[] {
    return this.#samples;
  }

  /** Most bytes that a process of each role was seen with between two instants. */
  memoryBetween(fromMs: number, toMs: number): ReadonlyMap<string, number> {
    const most = new Map<string, number>();
    for (const { atMs, bytes } of this.#memory) {
      if (atMs < fromMs || atMs > toMs) continue;
      for (const [role, size] of bytes) most.set(role, Math.max(size, most.get(role) ?? 0));
    }
    return most;
  }

  /**
   * Resolves with the first sample, begun after the call, that shows the pipeline carrying the load. Rejects with
   * `not-recovered`, which says what is behind, after `withinMs`.
   */
  async recovered(withinMs: number): Promise<Recovery> {
    const calledMs = performance.now();
    let last = "";
    for (;;) {
      const sample = this.#samples.at(-1);
      if (sample !== undefined && sample.atMs >= calledMs) {
        const behind = this.#behind(sample);
        if (behind.length === 0) return { atMs: sample.atMs, last };
        last = behind.join(" and ");
      }
      if (performance.now() - calledMs > withinMs) throw this.#notRecovered(withinMs, calledMs);
      await delay(SAMPLE_EVERY_MS);
    }
  }

  /** The parts of the pipeline that are further behind than they may be. */
  #behind({ unrecorded, unsealed, unsettled }: Sample): readonly string[] {
    const { publishes, runningMs } = this.#load.figures();
    const publishesPerS = publishes / (runningMs / 1000);
    const parts: [string, boolean][] = [
      ["recording", unrecorded > SECONDS_UNRECORDED * publishesPerS],
      ["sealing", unsealed > INTERVALS_UNSEALED],
      ["settling", unsettled > BATCHES_UNSETTLED],
    ];
    return parts.filter(([, isBehind]) => isBehind).map(([part]) => part);
  }

  #notRecovered(withinMs: number, calledMs: number): GridrootError {
    const last = this.#samples.at(-1);
    const where =
      last === undefined || last.atMs < calledMs
        ? `the stores did not answer: ${String(this.#lastError)}`
        : `${last.unrecorded} publishes not recorded, ${last.unsealed} intervals not sealed, ` +
          `${last.unsettled} batches not settled`;
    return new GridrootError("not-recovered", `behind the load after ${withinMs} ms: ${where}`);
  }

  async #watch(): Promise<void> {
    while (!this.#ended) {
      await this.#sample().catch((error: unknown) => (this.#lastError = error));
      await delay(SAMPLE_EVERY_MS);
    }
  }

  /** A store that is away makes no sample, and one that hangs a late one. */
  async #sample(): Promise<void> {
    const atMs = performance.now();
    const { nowS } = this.#load;
    const stores = await this.#machine.process.stores();
    const { ledger, eventLog } = stores;
    const { publishesUnacknowledged } = this.#load.figures();
    // Before the heads, so that they are not behind it.
    const offsets = await ledger.query<{ passed: bigint | null }>(
      "select sum(next_offset)::bigint as passed from ledger.consumer_offset where consumer = $1 and topic = any ($2)",
      [RECORDER, this.#topics],
    );
    const partitions = this.#topics.flatMap((topic) =>
      Array.from({ length: this.#machine.process.settings.partitionsPerRegion }, (_, partition) => ({
        topic,
        partition,
      })),
    );
    const heads = await Promise.all(partitions.map((partition) => eventLog.bounds(partition)));
    const sealed = await sealedUntil(stores, this.#start);
    const batches = await ledger.query<{ n: bigint }>(
      `select count(*) as n from ledger.batch left join ledger.settlement using (region_id, round, interval_end)
        where voided_ms is null and (state is null or state in ('signed', 'broadcast', 'reverted'))`,
    );
    const recorded = Number(offsets.rows[0]?.passed ?? 0n);
    const appended = Number(heads.reduce((sum, { next }) => sum + next, 0n));
    this.#samples.push({
      atMs,
      recorded,
      unrecorded: publishesUnacknowledged + appended - recorded,
      unsealed: Math.ceil((nowS - sealed) / INTERVAL_S),
      unsettled: Number(batches.rows[0]?.n ?? 0n),
    });
  }

  async #watchMemory(): Promise<void> {
    while (!this.#ended) {
      const bytes = new Map<string, number>();
      for (const { name, pid } of this.#machine.children) {
        const role = name.replace(/-.*$/, "");
        if (pid !== undefined) bytes.set(role, Math.max(bytes.get(role) ?? 0, await residentBytes(pid)));
      }
      this.#memory.push({ atMs: performance.now(), bytes });
      await delay(MEMORY_EVERY_MS);
    }
  }
}

/** What a process holds in memory; 0 where it has just ended. */
async function residentBytes(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/statm`, "utf8").catch(() => "0 0");
  return Number(text.split(" ")[1] ?? 0) * PAGE_BYTES;
}

import { intervalEnd } from "../domain/metering/intervals.ts";
import type { LogRecord } from "../event-log/event-log.ts";
import type { IntervalOpening } from "../ledger/sealing.ts";
import type { Parsed } from "./log-records.ts";
import type { RegionWatch } from "./region-watch.ts";

/** The intervals that a partition's records open, noted until they are announced to the sealers. */
export class OpeningNotes {
  readonly #watch: RegionWatch;
  readonly #intervalLengthS: number;
  readonly #openings = new Map<number, IntervalOpening>();

  constructor(intervalLengthS: number, watch: RegionWatch) {
    this.#intervalLengthS = intervalLengthS;
    this.#watch = watch;
  }

  /** Notes what a record opens after `sealedUntil`; the end of the latest interval that it speaks of, if any. */
  note(parsed: Parsed, record: LogRecord, sealedUntil: number): number | undefined {
    let latestEnd: number | undefined;
    for (const t of instantsOf(parsed)) {
      const interval = intervalEnd(t, this.#intervalLengthS);
      if (latestEnd === undefined || interval > latestEnd) latestEnd = interval;
      if (interval <= sealedUntil || this.#openings.has(interval)) continue;
      const opening = { interval, firstAppendMs: record.appendTimeMs };
      if (this.#watch.isNews(opening)) this.#openings.set(interval, opening);
    }
    return latestEnd;
  }

  /** Announces what was noted; whether there was anything. */
  async announce(): Promise<boolean> {
    if (this.#openings.size === 0) return false;
    await this.#watch.announceOpenings([...this.#openings.values()]);
    this.#openings.clear();
    return true;
  }
}

function instantsOf(parsed: Parsed): readonly number[] {
  if (parsed.kind === "readings") return parsed.readings.map(({ t }) => t);
  // A closing register counts as a reading; a commissioning says nothing about energy.
  if (parsed.kind !== "registry" || parsed.refused !== undefined) return [];
  return parsed.record.type === "commission" ? [] : [parsed.record.at];
}

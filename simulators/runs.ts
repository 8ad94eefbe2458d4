import { setTimeout as pause } from "node:timers/promises";
import type { Clock } from "../service/clock.ts";
import type { FleetDriver } from "./fleet-driver.ts";
import { INTERVAL_S } from "./fleet.ts";
import { LAST_MESSAGE_AFTER_S } from "./schedule.ts";

/** Where a run stands after an interval. */
export interface RunProgress {
  /** Everything up to this boundary, unix seconds, is published and acknowledged. */
  readonly intervalEnd: number;
  /** Whether the interval was replayed, not lived through. */
  readonly replayed: boolean;
}

/** Resolves when the pipeline can take the interval that ends at `end` (unix seconds): the throttle of a replay. */
export type WaitForRoom = (end: number) => Promise<void>;

export interface DayOptions {
  readonly driver: FleetDriver;
  /** The boundary before the first interval, unix seconds. */
  readonly from: number;
  readonly intervals: number;
}

export interface DayDependencies {
  /** Sets ingest's clock, unix ms; resolves once every worker goes by it. */
  readonly setIngestClock: (nowMs: number) => Promise<void>;
  readonly waitForRoom: WaitForRoom;
  readonly onProgress?: (progress: RunProgress) => void;
}

/** By how much ingest's clock is beyond an interval while it is published: the interval's last message has left. */
const CLOCK_MARGIN_S = 60;
/** A sleep is cut into pieces, so that a clock that is set is noticed. */
const LONGEST_SLEEP_MS = 200;

/** Publishes a number of intervals as fast as the pipeline takes them, with ingest's clock in the replayed time. */
export async function runDay(options: DayOptions, dependencies: DayDependencies): Promise<void> {
  const { driver, from, intervals } = options;
  for (let interval = 1; interval <= intervals; interval += 1) {
    const intervalEnd = from + interval * INTERVAL_S;
    await dependencies.waitForRoom(intervalEnd);
    await dependencies.setIngestClock((intervalEnd + CLOCK_MARGIN_S) * 1000);
    await driver.publishInterval(intervalEnd);
    dependencies.onProgress?.({ intervalEnd, replayed: true });
  }
}

export interface LiveOptions {
  readonly driver: FleetDriver;
  /** The boundary up to which all is published, unix seconds: 24 hours back, or where the last run ended. */
  readonly from: number;
}

export interface LiveDependencies {
  readonly clock: Clock;
  readonly waitForRoom: WaitForRoom;
  readonly onProgress?: (progress: RunProgress) => void;
  /** Ends the run: the driver is stopped and the promise resolves. */
  readonly signal: AbortSignal;
}

/**
 * Replays what lies between `from` and now as fast as the pipeline takes it, then goes on in real time: readings
 * leave their meters when the schedule says. Resolves when `signal` aborts; rejects when a meter is refused. A run
 * that begins again at an earlier `from` repeats the same messages.
 */
export async function replayThenLive(options: LiveOptions, dependencies: LiveDependencies): Promise<void> {
  const { driver, from } = options;
  const { clock, signal } = dependencies;
  const aborted = new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
  const stopped = aborted.then(() => driver.stop());
  try {
    for (let intervalEnd = from + INTERVAL_S; !signal.aborted; intervalEnd += INTERVAL_S) {
      const replayed = (intervalEnd + LAST_MESSAGE_AFTER_S) * 1000 <= clock.nowMs();
      if (replayed) await Promise.race([dependencies.waitForRoom(intervalEnd), aborted]);
      await driver.publishInterval(intervalEnd, replayed ? undefined : (at) => sleepUntil(at, clock, signal));
      dependencies.onProgress?.({ intervalEnd, replayed });
    }
  } catch (cause) {
    if (!signal.aborted) throw cause;
  }
  await stopped;
}

async function sleepUntil(at: number, clock: Clock, signal: AbortSignal): Promise<void> {
  for (;;) {
    const aheadMs = at * 1000 - clock.nowMs();
    if (aheadMs <= 0) return;
    await pause(Math.min(aheadMs, LONGEST_SLEEP_MS), undefined, { signal });
  }
}

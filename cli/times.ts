import { systemClock } from "../service/clock.ts";
import { GridrootError } from "../service/errors.ts";

/** An instant as people type it, ISO 8601 or unix seconds, in unix seconds. Throws `time-unreadable`. */
export function parseInstant(text: string): number {
  const seconds = /^\d+$/.test(text) ? Number(text) : Math.floor(Date.parse(text) / 1000);
  if (!Number.isSafeInteger(seconds))
    throw new GridrootError("time-unreadable", `${text} is no ISO time nor unix seconds`);
  return seconds;
}

/** `2026-11-20T13:15:00Z`. */
export function isoInstant(t: number): string {
  return `${new Date(t * 1000).toISOString().slice(0, 19)}Z`;
}

/** The machine's time in unix seconds. */
export function unixNowS(): number {
  return Math.floor(systemClock.nowMs() / 1000);
}

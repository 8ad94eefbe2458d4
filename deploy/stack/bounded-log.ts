import { statSync, truncateSync } from "node:fs";

/** A server's output is emptied where it has grown beyond this. */
const LIMIT_BYTES = 16 * 1024 * 1024;
const LOOK_EVERY_MS = 5_000;

/** Empties a log that is too long. Its server appends, so it goes on at the beginning of the emptied file. */
export function cutLog(file: string): void {
  try {
    if (statSync(file).size > LIMIT_BYTES) truncateSync(file);
  } catch {
    // There is none yet.
  }
}

/** Cuts the log every few seconds until the timer is cleared; the timer keeps no process from ending. */
export function watchLog(file: string): NodeJS.Timeout {
  return setInterval(cutLog, LOOK_EVERY_MS, file).unref();
}

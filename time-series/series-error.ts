import { GridrootError } from "../service/errors.ts";

/** SQLSTATE classes that a repetition does not cure: unsupported, data, integrity, syntax or missing object. */
const LASTING = new Set(["0A", "22", "23", "42"]);

/**
 * What an adapter rejects with where PostgreSQL failed it: `series-unavailable`, retryable, while the server is away,
 * slow or out of resources; `series-failed` where the statement itself is at fault.
 */
export function seriesError(cause: unknown): GridrootError {
  if (cause instanceof GridrootError) return cause;
  const state = sqlState(cause);
  return state !== undefined && LASTING.has(state.slice(0, 2))
    ? new GridrootError("series-failed", "the time series refused a statement", { cause })
    : new GridrootError("series-unavailable", "the time series cannot be reached", {
        cause,
        retryable: true,
      });
}

/** Whether a row found no partition: it was dropped by another process after this one had seen it. */
export function isPartitionMissing(cause: unknown): boolean {
  return sqlState(cause) === "23514";
}

function sqlState(cause: unknown): string | undefined {
  const code = (cause as { code?: unknown } | null)?.code;
  return typeof code === "string" && /^[0-9A-Z]{5}$/.test(code) ? code : undefined;
}

import { GridrootError } from "../../service/errors.ts";

/** InfluxDB's answer to a request that it did not carry out. */
export class InfluxAnswer extends Error {
  readonly status: number;
  /** InfluxDB's own code, such as `unauthorized`; empty where the answer is not InfluxDB's (a proxy's, say). */
  readonly code: string;
  /** What it says, one line of at most 300 characters; empty where the answer is not InfluxDB's. */
  readonly detail: string;
  /** How long it asks to be left alone; 0 where it does not say. */
  readonly retryAfterMs: number;

  constructor(status: number, body: string, retryAfter: string | undefined) {
    const { code, message } = parse(body);
    super(`InfluxDB answered ${status}${code === "" ? "" : ` (${code}): ${message}`}`);
    this.name = "InfluxAnswer";
    this.status = status;
    this.code = code;
    this.detail = message;
    // The other form, a date, is not sent by InfluxDB.
    this.retryAfterMs = /^\d{1,6}$/.test(retryAfter ?? "") ? Number(retryAfter) * 1000 : 0;
  }
}

function parse(body: string): { code: string; message: string } {
  try {
    const { code, message } = JSON.parse(body) as { code?: unknown; message?: unknown };
    if (typeof code === "string" && typeof message === "string") {
      const line = message.replace(/[^\x20-\x7e]+/g, " ").slice(0, 300);
      return { code: code.slice(0, 50), message: line };
    }
  } catch {
    // What is not InfluxDB's JSON says nothing about the request.
  }
  return { code: "", message: "" };
}

/**
 * The port's error for an answer: `series-unavailable`, retryable, for 408, 429 and 5xx; `series-denied` for 401 and
 * 403, `series-missing` for 404 (organisation or bucket), `series-failed` for all others. The last three need an
 * operator; who repeats them loses nothing and goes on once it is put right.
 */
export function answerError(answer: InfluxAnswer): GridrootError {
  const { status, message } = answer;
  if (status === 408 || status === 429 || status >= 500)
    return new GridrootError("series-unavailable", message, { cause: answer, retryable: true });
  if (status === 401 || status === 403) return new GridrootError("series-denied", message, { cause: answer });
  if (status === 404) return new GridrootError("series-missing", message, { cause: answer });
  return new GridrootError("series-failed", message, { cause: answer });
}

/** The port's error where no whole answer came; the request may have been carried out. */
export function noAnswer(cause: unknown, timedOutMs: number | undefined): GridrootError {
  const code = (cause as { code?: unknown } | null)?.code;
  const why =
    timedOutMs === undefined
      ? `cannot be reached${typeof code === "string" ? `: ${code}` : ""}`
      : `did not answer within ${timedOutMs} ms`;
  return new GridrootError("series-unavailable", `InfluxDB ${why}`, { cause, retryable: true });
}

import { promisify } from "node:util";
import { constants, gzip } from "node:zlib";
import { InfluxAnswer, answerError } from "./influx-answer.ts";
import type { InfluxHttp } from "./influx-http.ts";

const compress = promisify(gzip);

/** A line that InfluxDB will never take. */
export interface RefusedLine {
  readonly index: number;
  readonly reason: string;
}

export interface WriteLinesOptions {
  /** Lines that one request holds at the most. */
  readonly maxLinesPerRequest: number;
  /** How long a request may take, asked for before each; default the client's. */
  readonly timeoutMs?: () => number;
}

/**
 * Writes lines, each request answered before the next is sent. Resolved: all but the refused ones are stored.
 *
 * Where InfluxDB says that some of a request's points cannot be stored, it stores the others or none of them and does
 * not say which. The request is halved until they are found; writing a point again changes nothing. All other answers
 * reject as `answerError` says: only what speaks of points may make a point a dead letter.
 */
export async function writeLines(
  influx: InfluxHttp,
  bucket: string,
  lines: readonly string[],
  options: WriteLinesOptions,
): Promise<readonly RefusedLine[]> {
  const refused: RefusedLine[] = [];
  const write = async (from: number, to: number): Promise<void> => {
    const refusal = await post(influx, bucket, lines.slice(from, to), options);
    if (refusal === undefined) return;
    if (refusal.dropped === to - from || to - from === 1) {
      for (let index = from; index < to; index += 1) refused.push({ index, reason: refusal.reason });
      return;
    }
    const middle = Math.floor((from + to) / 2);
    await write(from, middle);
    await write(middle, to);
  };
  for (let from = 0; from < lines.length; from += options.maxLinesPerRequest)
    await write(from, Math.min(from + options.maxLinesPerRequest, lines.length));
  return refused;
}

/** Why points of a request were not stored; `dropped` is how many, where InfluxDB says so. */
interface Refusal {
  readonly reason: string;
  readonly dropped: number | undefined;
}

async function post(
  influx: InfluxHttp,
  bucket: string,
  lines: readonly string[],
  { timeoutMs }: WriteLinesOptions,
): Promise<Refusal | undefined> {
  // The fastest level: the time goes to InfluxDB, not to the network.
  const body = await compress(lines.join("\n"), { level: constants.Z_BEST_SPEED });
  try {
    await influx.write(bucket, body, timeoutMs?.());
    return undefined;
  } catch (cause) {
    if (!(cause instanceof InfluxAnswer)) throw cause;
    const refusal = refusalIn(cause);
    if (refusal === undefined) throw answerError(cause);
    return refusal;
  }
}

/**
 * What an answer says against points: 400 with a line that cannot be read, 413, or 422 with a partial write. A field of
 * another type is none of a point's faults: somebody else wrote into the bucket, and every reading would meet it.
 */
function refusalIn({ status, code, detail }: InfluxAnswer): Refusal | undefined {
  if (status === 413) return { reason: "InfluxDB: too large", dropped: undefined };
  if (code === "" || /field type conflict/.test(detail)) return undefined;
  if (status === 400 && /unable to parse/.test(detail))
    return { reason: `InfluxDB: ${detail}`, dropped: undefined };
  if (status !== 422) return undefined;
  const dropped = /dropped=(\d+)/.exec(detail)?.[1];
  return { reason: `InfluxDB: ${detail}`, dropped: dropped === undefined ? undefined : Number(dropped) };
}

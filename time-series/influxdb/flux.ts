import { chunksToLines, linesToTables } from "@influxdata/influxdb-client";
import { GridrootError } from "../../service/errors.ts";
import type { InfluxHttp } from "./influx-http.ts";

/** One of a set of names, as a parameter. */
export interface OneOf {
  readonly oneOf: readonly string[];
}

/** What a query may be given: text, whole numbers, sets of names. */
export type FluxParams = Readonly<Record<string, string | number | OneOf>>;

/** Takes the rows of one table schema: looks up its columns once, then reads each row. */
export type RowsOf = (column: (label: string) => number) => (row: readonly string[]) => void;

/**
 * Runs a Flux query and hands its rows to `rowsOf` as they come; a cell that has no value is "".
 *
 * The text is constant. What comes from outside goes beside it, as literals of a syntax tree in which they are bound to
 * `params` (the request's `extern`), so no value is ever read as a part of the query. InfluxDB puts them in place before
 * it plans, so `r.meter == params.meter` is still looked up in the index.
 *
 * An error that InfluxDB meets after its first rows comes as a table of its own within a successful answer: it rejects.
 */
export async function runFlux(
  influx: InfluxHttp,
  text: string,
  params: FluxParams,
  rowsOf: RowsOf,
  timeoutMs?: number,
): Promise<void> {
  const body = JSON.stringify({
    type: "flux",
    query: text,
    extern: externOf(params),
    dialect: { header: true, annotations: ["datatype", "group", "default"] },
  });
  const request = {
    ...({ method: "POST", path: "/api/v2/query", search: { org: influx.org }, body } as const),
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
  };
  await influx.exchange(request, async (reply) => {
    const decoder = decoderFor(rowsOf);
    for await (const chunk of reply.body) decoder.next(chunk);
    decoder.end();
  });
}

/** The client library's decoder of annotated CSV, which calls back at once and so may be fed chunk by chunk. */
function decoderFor(rowsOf: RowsOf): { next(chunk: Buffer): void; end(): void } {
  let failure: unknown;
  let schema: unknown;
  let read: (row: readonly string[]) => void = () => {};
  const lines = chunksToLines(
    linesToTables({
      next(row, table) {
        if (table !== schema) {
          schema = table;
          const place = new Map(table.columns.map(({ label, index }) => [label, index]));
          read = place.has("error")
            ? queryFailed(place.get("error")!)
            : rowsOf((label) => place.get(label) ?? -1);
        }
        read(row);
      },
      error: (error) => (failure ??= error),
      complete: () => {},
    }),
  );
  const raise = () => {
    if (failure !== undefined) throw failure as Error;
  };
  return {
    next(chunk) {
      lines.next(chunk);
      raise();
    },
    end() {
      lines.complete();
      raise();
    },
  };
}

function queryFailed(place: number): (row: readonly string[]) => void {
  return (row) => {
    const detail = (row[place] ?? "").replace(/[^\x20-\x7e]+/g, " ").slice(0, 300);
    throw new GridrootError("series-unavailable", `InfluxDB gave a query up: ${detail}`, { retryable: true });
  };
}

/** `option params = {...}` as a syntax tree. Names of parameters are this program's own. */
function externOf(params: FluxParams): unknown {
  const properties = Object.entries(params).map(([name, value]) => ({
    type: "Property",
    key: { type: "Identifier", name },
    value: literalOf(value),
  }));
  const assignment = {
    type: "VariableAssignment",
    id: { type: "Identifier", name: "params" },
    init: { type: "ObjectExpression", properties },
  };
  return { type: "File", package: null, imports: null, body: [{ type: "OptionStatement", assignment }] };
}

function literalOf(value: string | number | OneOf): unknown {
  if (typeof value === "string") return { type: "StringLiteral", value };
  if (typeof value === "number") return { type: "IntegerLiteral", value: String(value) };
  const names = value.oneOf.map((name) => name.replace(/[^A-Za-z0-9_]/g, "\\$&"));
  return { type: "RegexpLiteral", value: `^(?:${names.join("|")})$` };
}

/** Unix seconds of an RFC 3339 instant in UTC, such as InfluxDB's; fractions are dropped. */
export function secondsOf(instant: string): number {
  return Date.parse(`${instant.slice(0, 19)}Z`) / 1000;
}

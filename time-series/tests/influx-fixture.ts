import { randomBytes } from "node:crypto";
import { wh } from "../../domain/metering/units.ts";
import type { InfluxConnectionOptions } from "../influxdb/influx-time-series.ts";
import type { SeriesPoint, TimeSeries } from "../time-series.ts";

/** Long past, so that all buckets are closed: midnight. */
export const DAY = 20_500 * 86_400;
export const ALL = { from: 0, to: 1e11 };

/** Buckets of the caller's own on the stack's InfluxDB; fails where the test runner did not bring one up. */
export function influxOfStack(): InfluxConnectionOptions {
  const { TEST_INFLUX_URL: url, TEST_INFLUX_ORG: org, TEST_INFLUX_TOKEN: token } = process.env;
  if (url === undefined || org === undefined || token === undefined)
    throw new Error("run tests of InfluxDB by `npm run test:distributed`");
  return { url, org, token, namespace: ownNamespace() };
}

export function ownNamespace(): string {
  return `test-${randomBytes(5).toString("hex")}`;
}

/** A point of a meter that has a region to itself. */
export function pointOf(meterId: string, t: number, fields: Partial<SeriesPoint> = {}): SeriesPoint {
  return {
    ...{ region: `region-of-${meterId}`, meterId, epoch: 0, seq: t % 1_000_000, t },
    ...{ importWh: wh(t), exportWh: wh(0), status: 0 },
    ...fields,
  };
}

/** Repairs until no mark is due. */
export async function settle(series: TimeSeries): Promise<void> {
  for (;;) if ((await series.repair(1000)) === 0) return;
}

/** Counts of a meter's 15-minute buckets, by their ends. */
export async function countsOf(series: TimeSeries, meterId: string): Promise<[end: number, count: number][]> {
  return (await series.buckets(meterId, 900, ALL, 1000)).map(({ end, count }) => [end, count]);
}

/** A request to InfluxDB itself, past the adapter. */
export async function ask(
  { url, org, token }: InfluxConnectionOptions,
  method: string,
  path: string,
  search: Record<string, string> = {},
  body?: string,
): Promise<unknown> {
  const query = new URLSearchParams({ org, ...search }).toString();
  const response = await fetch(`${url}${path}?${query}`, {
    method,
    headers: { authorization: `Token ${token}` },
    ...(body === undefined ? {} : { body }),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
  return text === "" ? undefined : JSON.parse(text);
}

/** A bucket's resource. */
export async function bucketOf(
  connection: InfluxConnectionOptions,
  part: string,
): Promise<{ id: string; orgID: string; retentionRules: { everySeconds: number }[]; updatedAt: string }> {
  const name = `${connection.namespace}-${part}`;
  const found = (await ask(connection, "GET", "/api/v2/buckets", { name })) as {
    buckets: { id: string; orgID: string; retentionRules: { everySeconds: number }[]; updatedAt: string }[];
  };
  return found.buckets[0]!;
}

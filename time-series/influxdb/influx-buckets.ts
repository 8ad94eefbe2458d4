import { GridrootError } from "../../service/errors.ts";
import type { ResolutionS } from "../time-series.ts";
import { InfluxAnswer } from "./influx-answer.ts";
import type { InfluxHttp } from "./influx-http.ts";

const DAY_S = 86_400;

/** Parts of the series, each in a bucket of InfluxDB of its own, because retention is a bucket's. */
export const PARTS = ["raw", "15m", "1h", "1d"] as const;
export type Part = (typeof PARTS)[number];

/** The part that holds the rollups of a resolution. */
export const PART_OF: Readonly<Record<ResolutionS, Part>> = { 900: "15m", 3600: "1h", 86400: "1d" };

/** Time that one file group of a part spans: as many groups for ten years of days as for some months of readings. */
const SHARD_S: Readonly<Record<Part, number>> = {
  raw: DAY_S,
  "15m": 7 * DAY_S,
  "1h": 30 * DAY_S,
  "1d": 360 * DAY_S,
};

/** Deleting goes through every series that has points in the range. */
const DELETE_TIMEOUT_MS = 300_000;

interface BucketResource {
  readonly id: string;
  readonly name: string;
  readonly retentionRules: readonly { readonly everySeconds: number }[];
}

/** The buckets `{namespace}-raw`, `-15m`, `-1h` and `-1d` of an InfluxDB. */
export class InfluxBuckets {
  readonly #influx: InfluxHttp;
  readonly #namespace: string;

  constructor(influx: InfluxHttp, namespace: string) {
    this.#influx = influx;
    this.#namespace = namespace;
  }

  /** Name of a part's bucket. */
  nameOf(part: Part): string {
    return `${this.#namespace}-${part}`;
  }

  /**
   * Creates what is missing, without retention: that is set by `keep`. Another process may do so at the same time. A
   * token that may only read and write the buckets will do where they are there.
   */
  async ensure(): Promise<void> {
    for (const part of PARTS) if ((await this.#find(part)) === undefined) await this.#create(part);
  }

  /**
   * Has InfluxDB drop by itself what nobody needs any more, whole file groups at no cost. It counts from its own clock
   * and looks at no other, so it is given a day more, and as much as `nowS` lies behind that clock: nothing that has
   * not expired is ever lost by it, and `deleteUntil` is what keeps to the cutoff.
   */
  async keep(part: Part, keptS: number, nowS: number): Promise<void> {
    const found = await this.#find(part);
    if (found === undefined) throw this.#missing(part);
    const behindS = Math.max(0, found.serverNowMs / 1000 - nowS);
    const everySeconds = (Math.ceil(keptS / DAY_S) + Math.floor(behindS / DAY_S) + 1) * DAY_S;
    if (found.bucket.retentionRules[0]?.everySeconds === everySeconds) return;
    const shardGroupDurationSeconds = Math.min(SHARD_S[part], everySeconds);
    await this.#influx.json({
      method: "PATCH",
      path: `/api/v2/buckets/${found.bucket.id}`,
      body: JSON.stringify({
        retentionRules: [{ type: "expire", everySeconds, shardGroupDurationSeconds }],
      }),
    });
  }

  /** Deletes all points at or before the second `until`. */
  async deleteUntil(part: Part, until: number): Promise<void> {
    await this.#influx.json({
      method: "POST",
      path: "/api/v2/delete",
      search: { org: this.#influx.org, bucket: this.nameOf(part) },
      body: JSON.stringify({
        start: "1970-01-01T00:00:00Z",
        stop: new Date(until * 1000).toISOString().replace(/\.000Z$/, ".999999999Z"),
      }),
      timeoutMs: DELETE_TIMEOUT_MS,
    });
  }

  /** Removes the buckets with all they hold. */
  async drop(): Promise<void> {
    for (const part of PARTS) {
      const found = await this.#find(part);
      if (found === undefined) continue;
      await this.#influx.json({ method: "DELETE", path: `/api/v2/buckets/${found.bucket.id}` });
    }
  }

  async #find(part: Part): Promise<{ bucket: BucketResource; serverNowMs: number } | undefined> {
    const name = this.nameOf(part);
    const request = {
      ...({ method: "GET", path: "/api/v2/buckets" } as const),
      search: { org: this.#influx.org, name },
    };
    try {
      const { value, serverNowMs } = await this.#influx.json(request);
      const { buckets } = value as { buckets: readonly BucketResource[] };
      const bucket = buckets.find((candidate) => candidate.name === name);
      return bucket === undefined ? undefined : { bucket, serverNowMs };
    } catch (cause) {
      // Without the organisation the answer is 404 as well.
      if (cause instanceof InfluxAnswer && cause.status === 404 && cause.detail.startsWith("bucket "))
        return undefined;
      throw cause;
    }
  }

  async #create(part: Part): Promise<void> {
    const { value } = await this.#influx.json({
      method: "GET",
      path: "/api/v2/orgs",
      search: { org: this.#influx.org },
    });
    const org = (value as { orgs: readonly { id: string }[] }).orgs[0];
    if (org === undefined) throw this.#missing(part);
    const retentionRules = [{ type: "expire", everySeconds: 0, shardGroupDurationSeconds: SHARD_S[part] }];
    const body = JSON.stringify({ orgID: org.id, name: this.nameOf(part), retentionRules });
    try {
      await this.#influx.json({ method: "POST", path: "/api/v2/buckets", body });
    } catch (cause) {
      // Another process was faster.
      if (!(cause instanceof InfluxAnswer && cause.status === 422 && (await this.#find(part)) !== undefined))
        throw cause;
    }
  }

  #missing(part: Part): GridrootError {
    return new GridrootError("series-missing", `InfluxDB has no bucket ${this.nameOf(part)}`);
  }
}

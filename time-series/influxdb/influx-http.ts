import * as http from "node:http";
import * as https from "node:https";
import { setTimeout as delay } from "node:timers/promises";
import { InfluxAnswer, noAnswer } from "./influx-answer.ts";

export interface InfluxHttpOptions {
  /** May have a path, behind which InfluxDB's own paths begin. */
  readonly url: string;
  readonly org: string;
  readonly token: string;
  /** How long a request may take, its answer included, ms. */
  readonly requestTimeoutMs: number;
  /** Connections; what comes above them waits for one, within its time. */
  readonly maxConnections: number;
}

/** A request to InfluxDB's API. */
export interface InfluxRequest {
  readonly method: "GET" | "POST" | "PATCH" | "DELETE";
  /** Such as `/api/v2/write`. */
  readonly path: string;
  readonly search?: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Buffer;
  /** In place of the client's. */
  readonly timeoutMs?: number;
}

/** A successful answer; the body is read to its end before the request's time is up, or the request fails. */
export interface InfluxReply {
  readonly headers: http.IncomingHttpHeaders;
  readonly body: AsyncIterable<Buffer>;
}

/** Idle connections close before InfluxDB closes them (after 3 minutes), so that no request meets a closing one. */
const IDLE_TIMEOUT_MS = 60_000;
const MAX_REFUSAL_BYTES = 65_536;
/** The longest that a Retry-After is heeded: whoever repeats pauses by itself as well. */
const MAX_PAUSE_MS = 30_000;

/**
 * Requests to one InfluxDB server, each within its time, over a bounded number of connections.
 *
 * Not the client library's: its write API repeats and drops by itself, takes an answer without a status for success,
 * and a query of its that stalls after the first bytes neither ends nor fails. None of it repeats here; a request
 * either was answered with success as a whole, or rejects.
 */
export class InfluxHttp {
  readonly org: string;
  readonly #base: URL;
  readonly #token: string;
  readonly #requestTimeoutMs: number;
  readonly #agent: http.Agent;
  readonly #request: typeof http.request;
  readonly #closing = new AbortController();
  #writeNotBefore = 0;

  constructor(options: InfluxHttpOptions) {
    this.org = options.org;
    this.#base = new URL(options.url);
    this.#token = options.token;
    this.#requestTimeoutMs = options.requestTimeoutMs;
    const isTls = this.#base.protocol === "https:";
    const { Agent, request } = isTls ? https : http;
    this.#agent = new Agent({
      keepAlive: true,
      maxSockets: options.maxConnections,
      timeout: IDLE_TIMEOUT_MS,
    });
    this.#request = request;
  }

  /**
   * Sends a request and has `read` take its answer. Rejects with `InfluxAnswer` where the answer is no success, with
   * `series-unavailable` where none came in time or not the whole of it; then the request may have been carried out.
   */
  async exchange<T>(request: InfluxRequest, read: (reply: InfluxReply) => Promise<T>): Promise<T> {
    const timeoutMs = request.timeoutMs ?? this.#requestTimeoutMs;
    const timeout = AbortSignal.timeout(timeoutMs);
    try {
      const response = await this.#send(request, AbortSignal.any([timeout, this.#closing.signal]));
      const status = response.statusCode ?? 0;
      if (status >= 200 && status < 300) return await read({ headers: response.headers, body: response });
      throw new InfluxAnswer(status, await textOf(response), response.headers["retry-after"]);
    } catch (cause) {
      if (!isTransportFailure(cause)) throw cause;
      throw noAnswer(cause, timeout.aborted ? timeoutMs : undefined);
    }
  }

  /** As `exchange`, for an answer in JSON; with the server's clock, unix ms. */
  json(request: InfluxRequest): Promise<{ value: unknown; serverNowMs: number }> {
    return this.exchange(request, async ({ headers, body }) => {
      const chunks: Buffer[] = [];
      for await (const chunk of body) chunks.push(chunk);
      const text = Buffer.concat(chunks).toString("utf8");
      const value = text === "" ? undefined : (JSON.parse(text) as unknown);
      return { value, serverNowMs: Date.parse(headers.date ?? "") };
    });
  }

  /**
   * Writes gzipped lines with nanosecond times. Resolved: InfluxDB has answered that all of them are stored. After an
   * answer with Retry-After the next write waits so long, 30 s at the most.
   */
  async write(bucket: string, gzipped: Buffer, timeoutMs?: number): Promise<void> {
    const pauseMs = this.#writeNotBefore - performance.now();
    if (pauseMs > 0) await this.#pause(pauseMs);
    const request: InfluxRequest = {
      method: "POST",
      path: "/api/v2/write",
      search: { org: this.org, bucket, precision: "ns" },
      headers: { "content-type": "text/plain; charset=utf-8", "content-encoding": "gzip" },
      body: gzipped,
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
    };
    try {
      await this.exchange(request, async ({ body }) => {
        for await (const _ of body);
      });
    } catch (cause) {
      if (cause instanceof InfluxAnswer && cause.retryAfterMs > 0)
        this.#writeNotBefore = performance.now() + Math.min(cause.retryAfterMs, MAX_PAUSE_MS);
      throw cause;
    }
  }

  /** Gives up what is under way. */
  close(): void {
    this.#closing.abort();
    this.#agent.destroy();
  }

  async #pause(ms: number): Promise<void> {
    try {
      await delay(ms, undefined, { signal: this.#closing.signal });
    } catch (cause) {
      throw noAnswer(cause, undefined);
    }
  }

  #send(request: InfluxRequest, signal: AbortSignal): Promise<http.IncomingMessage> {
    const { promise, resolve, reject } = Promise.withResolvers<http.IncomingMessage>();
    const url = new URL(this.#base);
    url.pathname = `${url.pathname.replace(/\/$/, "")}${request.path}`;
    url.search = new URLSearchParams(request.search).toString();
    const sent = this.#request(url, {
      method: request.method,
      agent: this.#agent,
      signal,
      headers: {
        authorization: `Token ${this.#token}`,
        "content-type": "application/json; charset=utf-8",
        "content-length": Buffer.byteLength(request.body ?? ""),
        ...request.headers,
      },
    });
    sent.on("response", resolve);
    sent.on("error", reject);
    sent.end(request.body);
    return promise;
  }
}

async function textOf(response: http.IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes > MAX_REFUSAL_BYTES) break;
  }
  return Buffer.concat(chunks).toString("utf8");
}

/** Errors of sockets and streams have a code, and so have aborted ones; a mistake of this program has none. */
function isTransportFailure(cause: unknown): boolean {
  if (!(cause instanceof Error) || cause instanceof InfluxAnswer || "retryable" in cause) return false;
  return "code" in cause || cause.name === "AbortError" || cause.name === "TimeoutError";
}

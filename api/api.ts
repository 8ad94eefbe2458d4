import swagger from "@fastify/swagger";
import { fastify } from "fastify";
import type { Logger } from "pino";
import { Histogram, type Registry } from "prom-client";
import { createHasher } from "../domain/settlement/hasher.ts";
import type { Clock } from "../service/clock.ts";
import type { Pool } from "../service/database.ts";
import { GridrootError } from "../service/errors.ts";
import type { Service } from "../service/lifecycle.ts";
import { primaryReads, type Reads } from "../service/replica-reads.ts";
import type { TimeSeries } from "../time-series/time-series.ts";
import { authorityRoutes } from "./authority-routes.ts";
import { batchRoutes } from "./batch-routes.ts";
import type { ChainView } from "./chain-view.ts";
import { meterRoutes } from "./meter-routes.ts";
import { type OperationalDependencies, operationalRoutes } from "./operational-routes.ts";
import { answerErrorsAsProblems } from "./problem.ts";
import { proofRoutes } from "./proof-routes.ts";
import { quarantineRoutes } from "./quarantine-routes.ts";
import { readingRoutes } from "./reading-routes.ts";
import { regionRoutes } from "./region-routes.ts";
import { type TypedApp, validateBySchema } from "./typed-app.ts";

export interface ApiOptions {
  /** Default 127.0.0.1. */
  readonly host?: string;
  /** 0 takes a free one; see `url`. */
  readonly port: number;
  /** Default 1,000; further connections are closed at once. */
  readonly maxConnections?: number;
  /** How long `/ready` waits for the dependencies' states, ms; default 5,000. */
  readonly readyWithinMs?: number;
  /** How long `stop` waits for requests in hand, ms; default 5,000. */
  readonly stopWithinMs?: number;
}

export interface ApiDependencies extends OperationalDependencies {
  /** The ledger's primary. */
  readonly pool: Pool;
  /** Where requests read the ledger that need not see the newest of it. Default: the primary. */
  readonly reads?: Reads;
  readonly timeSeries: TimeSeries;
  /** The settlement contract's view; without it proofs and attestations are answered 503. */
  readonly chain?: ChainView | undefined;
  readonly clock: Clock;
  readonly log: Logger;
  /** Where the API's own metrics are kept; `metricsText` tells those of the whole program. */
  readonly metrics: Registry;
}

const MAX_BODY_BYTES = 16 * 1024;
const REQUEST_TIMEOUT_MS = 10_000;
const KEEP_ALIVE_MS = 30_000;

/** The HTTP interface. It holds no state of its own: any number may run beside one another. */
export class Api implements Service {
  readonly name = "api";
  readonly #options: ApiOptions;
  readonly #dependencies: ApiDependencies;
  #app: TypedApp | undefined;
  #url: string | undefined;

  constructor(options: ApiOptions, dependencies: ApiDependencies) {
    this.#options = options;
    this.#dependencies = dependencies;
  }

  /** Scheme, host and port. Throws `not-started` before `start`. */
  get url(): string {
    if (this.#url === undefined) throw new GridrootError("not-started", "the HTTP interface has not started");
    return this.#url;
  }

  /** Rejects with `listen-failed` where the port is taken or the host not this machine's. */
  async start(): Promise<void> {
    const { host = "127.0.0.1", port, maxConnections = 1_000 } = this.#options;
    const app = await buildApp(this.#options, this.#dependencies);
    this.#app = app;
    app.server.maxConnections = maxConnections;
    try {
      this.#url = await app.listen({ host, port });
    } catch (cause) {
      throw new GridrootError("listen-failed", `HTTP cannot listen on ${host}:${port}`, { cause });
    }
    this.#dependencies.log.info({ url: this.#url }, "http interface listens");
  }

  /** Accepts nothing more, finishes requests in hand within the bound, then cuts what is left. */
  async stop(): Promise<void> {
    const app = this.#app;
    if (app === undefined) return;
    this.#app = undefined;
    const bound = setTimeout(() => app.server.closeAllConnections(), this.#options.stopWithinMs ?? 5_000);
    try {
      await app.close();
    } finally {
      clearTimeout(bound);
    }
  }
}

async function buildApp(options: ApiOptions, dependencies: ApiDependencies): Promise<TypedApp> {
  const app: TypedApp = fastify({
    logger: false,
    bodyLimit: MAX_BODY_BYTES,
    requestTimeout: REQUEST_TIMEOUT_MS,
    connectionTimeout: 2 * REQUEST_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_MS,
    forceCloseConnections: "idle",
    return503OnClosing: true,
  });
  app.setValidatorCompiler(validateBySchema);
  answerErrorsAsProblems(app, dependencies.log);
  measureRequests(app, dependencies.metrics);
  await app.register(swagger, {
    openapi: {
      openapi: "3.1.0",
      info: { title: "Gridroot", version: "1", description: "Meters, batches, proofs and attestations" },
    },
  });
  const hasher = await createHasher();
  // Routes come after the plugin that collects their schemas.
  app.after(() => {
    operationalRoutes(app, { readyWithinMs: options.readyWithinMs ?? 5_000 }, dependencies);
    const withReads = { ...dependencies, reads: dependencies.reads ?? primaryReads(dependencies.pool) };
    meterRoutes(app, withReads);
    readingRoutes(app, withReads);
    regionRoutes(app, withReads);
    quarantineRoutes(app, withReads);
    const withChain = { ...withReads, chain: dependencies.chain, hasher };
    batchRoutes(app, withChain);
    proofRoutes(app, withChain);
    authorityRoutes(app, withChain);
  });
  return app;
}

/** Duration by route pattern, never by address: the labels stay few. */
function measureRequests(app: TypedApp, metrics: Registry): void {
  const duration = new Histogram({
    name: "http_request_duration_seconds",
    help: "From a request's head to the end of its answer",
    labelNames: ["method", "route", "status"] as const,
    buckets: [0.001, 0.005, 0.02, 0.1, 0.5, 2, 10],
    registers: [metrics],
  });
  app.addHook("onResponse", async (request, reply) => {
    const route = request.routeOptions.url ?? "none";
    duration.observe({ method: request.method, route, status: reply.statusCode }, reply.elapsedTime / 1000);
  });
}

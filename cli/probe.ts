import { createServer, type Server, type ServerResponse } from "node:http";
import { once } from "node:events";
import type { Registry } from "prom-client";
import { GridrootError } from "../service/errors.ts";
import type { Service } from "../service/lifecycle.ts";

export interface ProbeOptions {
  readonly host: string;
  /** 0 takes a free port. */
  readonly port: number;
}

export interface ProbeDependencies {
  readonly metrics: Registry;
  /** Whether all roles of the process are up. */
  readonly isUp: () => boolean;
}

/**
 * What watches over a process of single roles asks it: `GET /health` is answered while the process lives, `GET /ready`
 * with 200 once its roles are up and 503 before, `GET /metrics` in Prometheus' text form. It tells of this process
 * alone and touches no store: a store that is away must not get every process restarted.
 */
export class Probe implements Service {
  readonly name = "probe";
  readonly #options: ProbeOptions;
  readonly #dependencies: ProbeDependencies;
  readonly #server: Server;

  constructor(options: ProbeOptions, dependencies: ProbeDependencies) {
    this.#options = options;
    this.#dependencies = dependencies;
    this.#server = createServer((request, response) => {
      const path = request.method === "GET" ? request.url : undefined;
      this.#answer(path, response).catch(() => response.destroy());
    });
    // A prober asks seldom and little.
    this.#server.maxConnections = 64;
    this.#server.headersTimeout = 5_000;
    this.#server.requestTimeout = 5_000;
  }

  /** Where it listens, once started. */
  get port(): number {
    const address = this.#server.address();
    return typeof address === "object" && address !== null ? address.port : this.#options.port;
  }

  /** Rejects with `port-taken` where somebody listens already. */
  async start(): Promise<void> {
    const { host, port } = this.#options;
    this.#server.listen(port, host);
    try {
      await once(this.#server, "listening");
    } catch (cause) {
      throw new GridrootError("port-taken", `the probe cannot listen on ${host}:${port}`, { cause });
    }
  }

  async stop(): Promise<void> {
    if (!this.#server.listening) return;
    const closed = once(this.#server, "close");
    this.#server.close();
    this.#server.closeAllConnections();
    await closed;
  }

  async #answer(path: string | undefined, response: ServerResponse): Promise<void> {
    const { metrics, isUp } = this.#dependencies;
    switch (path) {
      case "/health":
        return reply(response, 200, "application/json", '{"status":"ok"}');
      case "/ready":
        return reply(response, isUp() ? 200 : 503, "application/json", JSON.stringify({ ready: isUp() }));
      case "/metrics":
        return reply(response, 200, metrics.contentType, await metrics.metrics());
      default:
        return reply(response, 404, "application/json", '{"code":"not-found"}');
    }
  }
}

function reply(response: ServerResponse, status: number, type: string, body: string): void {
  response.writeHead(status, { "content-type": type, "cache-control": "no-store" }).end(body);
}

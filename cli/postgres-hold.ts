import pg from "pg";
import type { Logger } from "pino";
import { directPostgresUrl } from "../service/backends.ts";
import type { Settings } from "../service/configuration.ts";
import type { EmbeddedPostgres } from "../service/embedded-postgres.ts";
import { GridrootError } from "../service/errors.ts";
import type { Service } from "../service/lifecycle.ts";
import { embeddedPostgres } from "./stores.ts";

/** Of the advisory lock that the one `start` on a database holds: "gridroot" in ASCII, shortened to 63 bits. */
const START_LOCK = "7453010313431182959";

/** Pause before a server that died is started again, and the longest, between tries that fail. */
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 10_000;

/**
 * The PostgreSQL of a whole machine and the right to use it alone: the embedded server, or the configured one. A
 * second `start` on the same data is refused with `already-running`, and leaves the first one's server alone. The lock
 * goes with its connection, so `kill -9` frees it. An embedded server that dies is started again on the same port;
 * everybody else finds it there by reconnecting.
 */
export class PostgresHold implements Service {
  readonly name = "postgres";
  readonly #settings: Settings;
  readonly #log: Logger;
  #server: EmbeddedPostgres | undefined;
  #lock: pg.Client | undefined;
  #url = "";
  #stopping = false;
  #retry: NodeJS.Timeout | undefined;
  #recovery: Promise<void> = Promise.resolve();

  constructor(settings: Settings, dependencies: { log: Logger }) {
    this.#settings = settings;
    this.#log = dependencies.log;
  }

  /** Connection string, once started. */
  get url(): string {
    return this.#url;
  }

  async start(): Promise<void> {
    const server = this.#settings.postgresUrl === "" ? embeddedPostgres(this.#settings) : undefined;
    await server?.start();
    this.#url = server?.url ?? this.#settings.postgresUrl;
    await this.#hold();
    // Only the holder of the lock may stop the server.
    this.#server = server;
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    clearTimeout(this.#retry);
    await this.#recovery;
    await this.#lock?.end();
    await this.#server?.stop();
  }

  async #hold(): Promise<void> {
    const url = directPostgresUrl({ ...this.#settings, postgresUrl: this.#url });
    const lock = await lockedClient(url, this.#settings.dataDir);
    lock.once("end", () => {
      if (!this.#stopping) this.#recoverAfter(FIRST_PAUSE_MS);
    });
    this.#lock = lock;
  }

  #recoverAfter(pauseMs: number): void {
    this.#log.error({ pauseMs }, "PostgreSQL is gone and is started again");
    this.#retry = setTimeout(() => {
      this.#recovery = this.#recover().catch((error: unknown) => {
        this.#log.error({ err: error }, "PostgreSQL did not start again");
        if (!this.#stopping) this.#recoverAfter(Math.min(pauseMs * 2, LONGEST_PAUSE_MS));
      });
    }, pauseMs);
  }

  async #recover(): Promise<void> {
    await this.#server?.start();
    await this.#hold();
  }
}

async function lockedClient(url: string, dataDir: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, application_name: "gridroot start" });
  // A lost connection shows in every other pool as well; here it only must not end the process.
  client.on("error", () => {});
  await client.connect();
  const result = await client.query<{ locked: boolean }>(
    `select pg_try_advisory_lock(${START_LOCK}) as locked`,
  );
  if (result.rows[0]?.locked === true) return client;
  await client.end();
  throw new GridrootError("already-running", `another \`gridroot start\` runs on ${dataDir}`);
}

import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import { embeddedPostgres } from "../../cli/stores.ts";
import type { Settings } from "../../service/configuration.ts";
import { GridrootError } from "../../service/errors.ts";
import { type Backends, ON_THE_WAY } from "./backends.ts";
import { AT_ONCE, pausing, processTree, SERVER_KINDS, type Target, targetOf } from "./targets.ts";

const ANSWER_WITHIN_MS = 2000;

/** PostgreSQL for everything; the machine brings its own. */
export function embeddedBackends(): Backends {
  return {
    environment: { GRIDROOT_PROFILE: "embedded" },
    targets: async (settings) => [await embeddedPostgresTarget(settings)],
    stop: async () => {},
  };
}

async function embeddedPostgresTarget(settings: Settings): Promise<Target> {
  const server = embeddedPostgres(settings);
  const pid = async (): Promise<number> => {
    await server.attach();
    const found = await server.pid();
    if (found === undefined) throw new GridrootError("target-lost", "PostgreSQL does not run");
    return found;
  };
  await pid();
  const { url } = server;
  const kill = async (): Promise<void> => void process.kill(await pid(), "SIGKILL");
  return targetOf(
    // The machine starts it again at once: there is no time to draw.
    { name: "postgres", weight: ON_THE_WAY, kinds: { ...SERVER_KINDS, kill: AT_ONCE, cut: AT_ONCE } },
    {
      kill,
      pause: async (forMs) => pausing(await processTree(await pid()), forMs),
      cut: () => cutPostgres(url),
    },
    () => postgresAnswers(url),
  );
}

/** Ends every session of the server but the one that does it. */
export async function cutPostgres(url: string): Promise<void> {
  await withClient(url, (client) =>
    client.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and backend_type = 'client backend'",
    ),
  );
}

/** Whether a new session of the server is served in time. */
export async function postgresAnswers(url: string): Promise<boolean> {
  const late = delay(ANSWER_WITHIN_MS, false, { ref: false });
  const asked = withClient(url, (client) => client.query("select 1")).then(() => true);
  return Promise.race([asked, late]);
}

async function withClient<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: ANSWER_WITHIN_MS });
  client.on("error", () => {});
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

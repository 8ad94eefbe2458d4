import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { GridrootError } from "../../service/errors.ts";
import { reachablePlaceOf } from "../../service/server-user.ts";
import { influxServer } from "./influxdb.ts";
import { withLock } from "./install.ts";
import type { Say } from "./install.ts";
import { kafkaBrokers } from "./kafka.ts";
import type { NativeProcess } from "./native-server.ts";
import { postgresServer } from "./postgres.ts";
import { serversOn } from "./processes.ts";
import { redisServer } from "./redis.ts";
import { VERSIONS } from "./versions.ts";

/** Where a stack lies and listens. */
export interface StackOptions {
  /** Absolute. */
  readonly dir: string;
  readonly ports: Readonly<Record<keyof typeof PORTS, number>>;
}

/** Settings of the ports and what they are otherwise: 23 before the last three digits of a server's well-known port. */
const PORTS = {
  GRIDROOT_STACK_POSTGRES_PORT: 23_432,
  GRIDROOT_STACK_REDIS_PORT: 23_379,
  GRIDROOT_STACK_INFLUX_PORT: 23_086,
  GRIDROOT_STACK_KAFKA_PORT: 23_092,
  GRIDROOT_STACK_KAFKA_CONTROLLER_PORT: 23_093,
} as const;

/** One server of the stack as `status` shows it. */
export interface ServerStatus {
  readonly name: string;
  readonly version: string;
  readonly address: string;
  readonly state: "up" | "down" | "no answer";
  readonly pid: number | undefined;
}

interface StackServer {
  readonly server: NativeProcess;
  readonly version: string;
}

interface Stack {
  /** In the order of their start. */
  readonly servers: readonly StackServer[];
  readonly settings: Readonly<Record<string, string>>;
}

/**
 * Reads GRIDROOT_STACK_DIR and the ports' settings.
 *
 * @throws GridrootError `setting-invalid`: a port is no number from 1 to 65535.
 */
export function stackOptionsFrom(environment: NodeJS.ProcessEnv): StackOptions {
  const ports = Object.fromEntries(
    Object.entries(PORTS).map(([name, standard]) => {
      const port = Number(environment[name] ?? standard);
      if (!Number.isInteger(port) || port < 1 || port > 65_535)
        throw new GridrootError("setting-invalid", `${name} is no port: ${environment[name] ?? ""}`);
      return [name, port];
    }),
  ) as StackOptions["ports"];
  return { dir: resolve(environment["GRIDROOT_STACK_DIR"] ?? ".gridroot/stack"), ports };
}

/**
 * Starts what is down and leaves alone what is up, installing first what the cache does not have; writes
 * `settings.env`. The servers outlive this process.
 *
 * @returns Names of the servers that it started.
 * @throws GridrootError where a server does not come up; the others are left as they are, and the next call goes on.
 */
export async function bringUp(options: StackOptions, say: Say): Promise<string[]> {
  const startMs = performance.now();
  await mkdir(options.dir, { recursive: true });
  return withLock(join(options.dir, "lock"), async () => {
    const { servers, settings } = await stackOf(options);
    const results = await Promise.allSettled(servers.map((one) => ensureUp(one, say)));
    for (const result of results) if (result.status === "rejected") throw result.reason;
    const file = await writeSettings(options.dir, settings);
    say(`stack up after ${seconds(startMs)}; settings in ${file}`);
    return servers.map(({ server }) => server.name).filter((_, index) => valueOf(results[index]) === true);
  });
}

/**
 * Stops the servers in the reverse order, and makes sure that no process of theirs is left. Data stays.
 *
 * @param only Names of those to stop; all where absent.
 * @throws GridrootError `server-stays`: a process is left.
 */
export async function takeDown(options: StackOptions, say: Say, only?: readonly string[]): Promise<void> {
  await mkdir(options.dir, { recursive: true });
  await withLock(join(options.dir, "lock"), async () => {
    const { servers } = await stackOf(options);
    const chosen = servers.filter(({ server }) => only === undefined || only.includes(server.name));
    for (const { server } of chosen.toReversed()) {
      const startMs = performance.now();
      if (!server.attach()) continue;
      await server.stop();
      say(`${server.name} stopped in ${seconds(startMs)}`);
    }
    if (only !== undefined) return;
    await rm(join(options.dir, "settings.env"), { force: true });
    const left = serversOn([`${options.dir}/`, `${reachablePlaceOf(options.dir)}-`]);
    if (left.length > 0)
      throw new GridrootError("server-stays", `processes of the stack are left: ${left.join(", ")}`);
    say("stack down");
  });
}

/** What each server is and whether it answers; starts and installs nothing. */
export async function statusOf(options: StackOptions): Promise<ServerStatus[]> {
  const { servers } = await stackOf(options);
  return Promise.all(
    servers.map(async ({ server, version }): Promise<ServerStatus> => {
      const runs = server.attach();
      const state = !runs ? "down" : (await server.answers()) ? "up" : "no answer";
      return { name: server.name, version, address: `127.0.0.1:${server.port}`, state, pid: server.pid };
    }),
  );
}

/** The settings that `bringUp` wrote: names of the program's settings and their values. */
export async function settingsOf(options: StackOptions): Promise<Record<string, string>> {
  const text = await readFile(join(options.dir, "settings.env"), "utf8");
  return Object.fromEntries(
    text
      .split("\n")
      .filter((line) => line.includes("="))
      .map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]),
  );
}

async function stackOf({ dir, ports }: StackOptions): Promise<Stack> {
  const lifetime = { outlivesStarter: true };
  const postgres = await postgresServer(
    { dataDir: join(dir, "postgres"), port: ports.GRIDROOT_STACK_POSTGRES_PORT },
    lifetime,
  );
  const redis = await redisServer(
    { dataDir: join(dir, "redis"), port: ports.GRIDROOT_STACK_REDIS_PORT },
    lifetime,
  );
  const influx = await influxServer(
    { dataDir: join(dir, "influxdb"), port: ports.GRIDROOT_STACK_INFLUX_PORT },
    lifetime,
  );
  const kafkaPorts = [ports.GRIDROOT_STACK_KAFKA_PORT, ports.GRIDROOT_STACK_KAFKA_CONTROLLER_PORT];
  const kafka = await kafkaBrokers({ dataDir: join(dir, "kafka"), brokers: 1, ports: kafkaPorts }, lifetime);
  return {
    servers: [
      { server: postgres, version: VERSIONS.postgres },
      { server: redis, version: VERSIONS.redis },
      { server: influx, version: VERSIONS.influxdb },
      ...kafka.map((server) => ({ server, version: VERSIONS.kafka })),
    ],
    settings: {
      GRIDROOT_POSTGRES_URL: postgres.url,
      GRIDROOT_KAFKA_BROKERS: kafka.map(({ port }) => `127.0.0.1:${port}`).join(","),
      GRIDROOT_KAFKA_REPLICATION: "1",
      GRIDROOT_KAFKA_MIN_INSYNC_REPLICAS: "1",
      GRIDROOT_INFLUX_URL: influx.url,
      GRIDROOT_INFLUX_ORG: influx.org,
      GRIDROOT_INFLUX_TOKEN: influx.token,
      GRIDROOT_REDIS_URL: redis.url,
    },
  };
}

/** Whether it had to be started. */
async function ensureUp({ server, version }: StackServer, say: Say): Promise<boolean> {
  const startMs = performance.now();
  if (server.attach()) {
    if (await server.answers()) return false;
    throw new GridrootError(
      "server-silent",
      `${server.name} runs as process ${server.pid ?? "?"} and does not answer on port ${server.port}: \`npm run stack:down\` ends it`,
    );
  }
  await server.start();
  say(`${server.name} ${version} up at 127.0.0.1:${server.port} in ${seconds(startMs)}`);
  return true;
}

async function writeSettings(dir: string, settings: Readonly<Record<string, string>>): Promise<string> {
  const file = join(dir, "settings.env");
  const lines = Object.entries(settings).map(([name, value]) => `${name}=${value}\n`);
  await rm(`${file}.unfinished`, { force: true });
  await writeFile(`${file}.unfinished`, lines.join(""), { mode: 0o600 });
  await rename(`${file}.unfinished`, file);
  return file;
}

function seconds(sinceMs: number): string {
  return `${((performance.now() - sinceMs) / 1000).toFixed(1)} s`;
}

function valueOf<T>(result: PromiseSettledResult<T> | undefined): T | undefined {
  return result?.status === "fulfilled" ? result.value : undefined;
}

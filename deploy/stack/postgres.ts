import { existsSync } from "node:fs";
import { chown, copyFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import pg from "pg";
import { GridrootError } from "../../service/errors.ts";
import { serverUserUnderRoot } from "../../service/server-user.ts";
import type { ServerUser } from "../../service/server-user.ts";
import { runToEnd } from "./install.ts";
import { NativeProcess } from "./native-server.ts";
import type { Lifetime, NativeServer } from "./native-server.ts";
import { freePort } from "./ports.ts";
import { findProgram, postgresProgram } from "./programs.ts";
import { secretIn } from "./secret.ts";
import { folderOfUser } from "./server-folder.ts";

export interface PostgresOptions {
  readonly dataDir: string;
  /** A free one where absent. */
  readonly port?: number;
  /** Url of a running server: this one begins as its copy and follows it, read-only. */
  readonly replicaOf?: string;
}

export interface PostgresAddress {
  /** Database `gridroot` as superuser `gridroot`. */
  readonly url: string;
}

const USER_AND_DATABASE = "gridroot";

/** Debian's PostgreSQL; under root it runs as user `postgres`. Defined, not started. */
export async function postgresServer(
  options: PostgresOptions,
  lifetime: Lifetime = {},
): Promise<NativeProcess & PostgresAddress> {
  const port = options.port ?? (await freePort());
  const user = await serverUserUnderRoot();
  const password =
    options.replicaOf === undefined
      ? await secretIn(options.dataDir, "password")
      : decodeURIComponent(new URL(options.replicaOf).password);
  const url = `postgres://${USER_AND_DATABASE}:${encodeURIComponent(password)}@127.0.0.1:${port}/${USER_AND_DATABASE}`;
  const server = new NativeProcess(
    {
      name: options.replicaOf === undefined ? "postgres" : "postgres-replica",
      dataDir: options.dataDir,
      port,
      user,
      // A fast shutdown: connections are closed, and a checkpoint is written.
      stopSignal: "SIGINT",
      startWithinMs: 60_000,
      stopWithinMs: 20_000,
      async prepare() {
        const command = findProgram(postgresProgram("postgres"));
        const data = await folderOfUser(join(options.dataDir, "data"), user);
        if (!existsSync(join(data, "PG_VERSION"))) await initialise(data, options, user);
        return {
          command,
          args: [
            ...["-D", data, "-p", String(port), "-h", "127.0.0.1", "-k", ""],
            ...["-c", "max_connections=200", "-c", "shared_buffers=128MB", "-c", "max_wal_size=1GB"],
            // A replica that was down for a while finds what it missed, and one that never returns keeps nothing.
            ...["-c", "wal_keep_size=512MB"],
            // Tests fail statements and cut connections by the thousand: what clients see would fill the log.
            ...["-c", "log_min_messages=fatal"],
          ],
        };
      },
      answer: async () => {
        if (options.replicaOf === undefined) await ensureDatabase(url);
        else await ask(url, "select 1");
      },
    },
    lifetime,
  );
  return Object.assign(server, { url });
}

/** Starts a PostgreSQL of the caller's own, empty or as a replica of another. */
export async function startPostgres(options: PostgresOptions): Promise<NativeServer & PostgresAddress> {
  const server = await postgresServer(options);
  await server.start();
  return server;
}

/** Makes the cluster beside its place and moves it there when it is whole: a start may be killed at any moment. */
async function initialise(
  data: string,
  options: PostgresOptions,
  user: ServerUser | undefined,
): Promise<void> {
  const unfinished = await emptyFolder(`${data}.unfinished`, user);
  const settings = { ...user, cwd: "/", env: { PATH: "/usr/bin:/bin", LC_ALL: "C", TZ: "UTC" } };
  if (options.replicaOf === undefined) {
    // The server's user has to read the password, and may not enter the place of the first copy.
    const passwordFile = `${data}.password`;
    await copyFile(join(options.dataDir, "password"), passwordFile);
    if (user !== undefined) await chown(passwordFile, user.uid, user.gid);
    await runToEnd(
      findProgram(postgresProgram("initdb")),
      [
        ...[`--pgdata=${unfinished}`, `--username=${USER_AND_DATABASE}`, `--pwfile=${passwordFile}`],
        ...["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions"],
      ],
      settings,
    );
    await rm(passwordFile);
  } else {
    const source = new URL(options.replicaOf);
    await runToEnd(
      findProgram(postgresProgram("pg_basebackup")),
      [
        ...[`--host=${source.hostname}`, `--port=${source.port}`, `--username=${source.username}`],
        ...[`--pgdata=${unfinished}`, "--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast"],
      ],
      { ...settings, env: { ...settings.env, PGPASSWORD: decodeURIComponent(source.password) } },
    );
  }
  await rm(data, { recursive: true, force: true });
  await rename(unfinished, data);
}

async function emptyFolder(folder: string, user: ServerUser | undefined): Promise<string> {
  await rm(folder, { recursive: true, force: true });
  const made = await folderOfUser(folder, user);
  if (made !== folder)
    throw new GridrootError("folder-unreachable", `${dirname(folder)} cannot be entered by its server`);
  return made;
}

async function ensureDatabase(url: string): Promise<void> {
  const maintenance = new URL(url);
  maintenance.pathname = "/postgres";
  const found = await ask(
    maintenance.href,
    "select 1 from pg_database where datname = $1",
    USER_AND_DATABASE,
  );
  if (found === 0) await ask(maintenance.href, `create database ${USER_AND_DATABASE}`);
  await ask(url, "select 1");
}

/** Number of rows that a statement gives on a connection of its own. */
async function ask(url: string, statement: string, ...values: readonly string[]): Promise<number> {
  const client = new pg.Client({
    connectionString: url,
    connectionTimeoutMillis: 2_000,
    query_timeout: 10_000,
  });
  client.on("error", () => {});
  try {
    await client.connect();
    const { rowCount } = await client.query(statement, [...values]);
    return rowCount ?? 0;
  } finally {
    await client.end();
  }
}

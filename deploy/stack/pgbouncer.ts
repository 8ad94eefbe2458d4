import { chown, writeFile } from "node:fs/promises";
import { join } from "node:path";
import pg from "pg";
import { serverUserUnderRoot } from "../../service/server-user.ts";
import { NativeProcess } from "./native-server.ts";
import type { Lifetime, NativeServer } from "./native-server.ts";
import { freePort } from "./ports.ts";
import { PGBOUNCER, findProgram } from "./programs.ts";
import { folderOfUser } from "./server-folder.ts";

export interface PgBouncerOptions {
  readonly dataDir: string;
  /** A free one where absent. */
  readonly port?: number;
  /** Url of a server, with the user and the password that clients use here as well. */
  readonly target: string;
}

export interface PgBouncerAddress {
  /** The target's, with the pooler's port: every database of the target has its name here. */
  readonly url: string;
}

/**
 * PgBouncer in transaction mode: a client has a connection of the server only while its transaction lasts. As strict
 * as its own defaults: a client that sets a parameter at its start which the pooler does not track is refused.
 *
 * It comes up, and stays up, while its target is down. Defined, not started.
 */
export async function pgBouncerServer(
  options: PgBouncerOptions,
  lifetime: Lifetime = {},
): Promise<NativeProcess & PgBouncerAddress> {
  const port = options.port ?? (await freePort());
  const user = await serverUserUnderRoot();
  const target = new URL(options.target);
  const address = new URL(target);
  address.hostname = "127.0.0.1";
  address.port = String(port);
  const console = new URL(address);
  console.pathname = "/pgbouncer";
  const server = new NativeProcess(
    {
      name: "pgbouncer",
      dataDir: options.dataDir,
      port,
      user,
      // Its own word for an orderly end, SIGINT, waits until the last client has gone.
      stopSignal: "SIGTERM",
      startWithinMs: 20_000,
      stopWithinMs: 10_000,
      async prepare() {
        const command = findProgram(PGBOUNCER);
        const folder = await folderOfUser(join(options.dataDir, "configuration"), user);
        const users = join(folder, "users.txt");
        const configuration = join(folder, "pgbouncer.ini");
        const name = decodeURIComponent(target.username);
        // It needs the password itself to sign in at the server.
        const files: [string, string][] = [
          [users, `${quoted(name)} ${quoted(decodeURIComponent(target.password))}\n`],
          [configuration, configurationOf(port, target, name, users)],
        ];
        for (const [file, text] of files) {
          await writeFile(file, text, { mode: 0o600 });
          if (user !== undefined) await chown(file, user.uid, user.gid);
        }
        return { command, args: ["--quiet", configuration] };
      },
      answer: () => showVersion(console.href),
    },
    lifetime,
  );
  return Object.assign(server, { url: address.href });
}

/** Starts a PgBouncer of the caller's own. */
export async function startPgBouncer(options: PgBouncerOptions): Promise<NativeServer & PgBouncerAddress> {
  const server = await pgBouncerServer(options);
  await server.start();
  return server;
}

function quoted(text: string): string {
  return `"${text.replaceAll('"', '""')}"`;
}

function configurationOf(port: number, target: URL, userName: string, usersFile: string): string {
  return [
    "[databases]",
    `* = host=${target.hostname} port=${target.port === "" ? "5432" : target.port}`,
    "[pgbouncer]",
    "listen_addr = 127.0.0.1",
    `listen_port = ${port}`,
    "unix_socket_dir =",
    "pool_mode = transaction",
    "auth_type = scram-sha-256",
    `auth_file = ${usersFile}`,
    `admin_users = ${userName}`,
    "max_client_conn = 1000",
    "default_pool_size = 20",
    "log_connections = 0",
    "log_disconnections = 0",
    "",
  ].join("\n");
}

/** By its console, which answers whether its target does or not. */
async function showVersion(url: string): Promise<void> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 2_000 });
  client.on("error", () => {});
  try {
    await client.connect();
    await client.query("show version");
  } finally {
    await client.end();
  }
}

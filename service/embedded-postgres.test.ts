import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { after, test } from "node:test";
import pg from "pg";
import { until } from "../tests/support/until.ts";
import { EmbeddedPostgres } from "./embedded-postgres.ts";

const folder = await mkdtemp(join(tmpdir(), "gridroot-embedded-"));
await chmod(folder, 0o755);
const dataDir = join(folder, "postgres");
const server = new EmbeddedPostgres({ dataDir, port: 0, postgresFlags: ["-c", "fsync=off"] });
after(async () => {
  await server.stop();
  await rm(folder, { recursive: true, force: true });
});

/** The folder in which an `initdb` of this test works now. */
function initialising(): string | undefined {
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const folderArgument = readFileSync(`/proc/${pid}/cmdline`, "utf8")
        .split("\0")
        .find((argument) => argument.startsWith("--pgdata=") && argument.includes(basename(folder)));
      if (folderArgument !== undefined) return folderArgument.slice("--pgdata=".length);
    } catch {
      // The process has ended since it was listed.
    }
  }
  return undefined;
}

test("a start that was killed while it made the cluster is made good by the next", async () => {
  const program = `
    const { EmbeddedPostgres } = await import(${JSON.stringify(new URL("./embedded-postgres.ts", import.meta.url).href)});
    await new EmbeddedPostgres({ dataDir: ${JSON.stringify(dataDir)}, port: 0 }).start();`;
  const killed = spawn(process.execPath, ["--input-type=module", "-e", program], {
    detached: true,
    stdio: "ignore",
  });
  await until("the cluster has begun to be made", () => {
    const place = initialising();
    return place !== undefined && existsSync(join(place, "PG_VERSION"));
  });
  process.kill(-killed.pid!, "SIGKILL");
  await until("initdb is gone", () => initialising() === undefined);
  await server.start();
  const client = new pg.Client({ connectionString: server.url });
  await client.connect();
  assert.equal((await client.query("select 1 as one")).rows[0].one, 1);
  await client.end();
});

test("a start while the server is still going down waits, and brings it up again", async () => {
  const client = new pg.Client({ connectionString: server.url });
  client.on("error", () => {});
  await client.connect();
  const { rows } = await client.query<{ data_directory: string }>("show data_directory");
  const before = await server.pid();
  // A smart shutdown: the server stays until its last client has gone.
  process.kill(before!, "SIGTERM");
  const pidFile = join(rows[0]!.data_directory, "postmaster.pid");
  await until("it is going down", () => readFileSync(pidFile, "utf8").includes("stopping"));
  const started = server.start();
  await Promise.all([started, client.end()]);
  assert.notEqual(await server.pid(), before);
});

test("a pid file whose number is now another server's is not believed", async () => {
  const client = new pg.Client({ connectionString: server.url });
  await client.connect();
  const { rows } = await client.query<{ data_directory: string }>("show data_directory");
  await client.end();
  const pidFile = join(rows[0]!.data_directory, "postmaster.pid");
  const [, ...rest] = (await readFile(pidFile, "utf8")).split("\n");
  await server.stop();
  const otherDir = join(folder, "other");
  const other = new EmbeddedPostgres({ dataDir: otherDir, port: 0, postgresFlags: ["-c", "fsync=off"] });
  await other.start();
  try {
    await writeFile(pidFile, [await other.pid(), ...rest].join("\n"));
    await server.start();
    assert.notEqual(await server.pid(), await other.pid());
  } finally {
    await other.stop();
  }
});

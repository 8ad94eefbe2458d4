import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { randomBytes } from "node:crypto";
import pg from "pg";
import { EmbeddedPostgres } from "../../service/embedded-postgres.ts";

/** Where the test runner's shared server is announced to the test files; see `tests/support/global-setup.ts`. */
export const SHARED_SERVER_VARIABLE = "TEST_POSTGRES_URL";

/** Starts a PostgreSQL server of the caller's own in a temporary folder, with durability off: no test pulls the plug. */
export async function startPostgres(
  postgresFlags: readonly string[] = ["-c", "fsync=off"],
): Promise<EmbeddedPostgres> {
  const folder = await mkdtemp(join(tmpdir(), "gridroot-test-postgres-"));
  await chmod(folder, 0o755);
  const server = new EmbeddedPostgres({ dataDir: join(folder, "postgres"), port: 0, postgresFlags });
  await server.start();
  const stop = server.stop.bind(server);
  server.stop = async () => {
    await stop();
    await rm(folder, { recursive: true, force: true });
  };
  return server;
}

function serverUrl(): string {
  const shared = process.env[SHARED_SERVER_VARIABLE];
  if (shared === undefined)
    throw new Error("run tests by `npm run test:unit` or `npm run test:file -- FILE`");
  return shared;
}

/** Creates an empty database for one test file and returns its connection string. */
export async function createTestDatabase(): Promise<string> {
  const url = new URL(serverUrl());
  const name = `test_${randomBytes(6).toString("hex")}`;
  const client = new pg.Client({ connectionString: url.href });
  await client.connect();
  await client.query(`create database ${name}`);
  await client.end();
  url.pathname = `/${name}`;
  return url.href;
}

import { SHARED_SERVER_VARIABLE, startPostgres } from "./postgres.ts";

const server = await startPostgres();

/** Called by `node --test --test-global-setup`: one PostgreSQL server for all test files. */
export function globalSetup(): void {
  process.env[SHARED_SERVER_VARIABLE] = server.url;
}

export async function globalTeardown(): Promise<void> {
  await server.stop();
}

import { readdir, readFile } from "node:fs/promises";
import { inTransaction, type Pool } from "./database.ts";
import { GridrootError } from "./errors.ts";

/**
 * Applies the numbered SQL files of a folder (`0001-what-it-does.sql`) to a schema, each in one transaction and
 * once. Concurrent callers wait for one another. Throws `migration-missing` where the schema has a migration that
 * the folder lacks: the program is older than its data.
 */
export async function migrate(pool: Pool, schema: string, folder: URL): Promise<void> {
  const files = (await readdir(folder)).filter((name) => /^\d{4}-.*\.sql$/.test(name)).sort();
  await inTransaction(pool, async (connection) => {
    await connection.query("select pg_advisory_xact_lock(hashtext($1))", [`migrate ${schema}`]);
    await connection.query(`create schema if not exists ${schema}`);
    await connection.query(`set local search_path = ${schema}`);
    await connection.query(
      "create table if not exists migration (name text primary key, applied_at timestamptz not null default now())",
    );
    const applied = await connection.query<{ name: string }>("select name from migration");
    const done = new Set(applied.rows.map((row) => row.name));
    const unknown = [...done].find((name) => !files.includes(name));
    if (unknown !== undefined) {
      throw new GridrootError(
        "migration-missing",
        `schema ${schema} has ${unknown}, which this version lacks`,
      );
    }
    for (const name of files.filter((file) => !done.has(file))) {
      await connection.query(await readFile(new URL(name, folder), "utf8"));
      await connection.query("insert into migration (name) values ($1)", [name]);
    }
  });
}

#!/usr/bin/env node
/**
 * The program. The only file that reads the environment and chooses adapters; what the commands do is in `cli/`.
 */
import { buildProgram } from "./cli/program.ts";
import type { Adapters } from "./cli/context.ts";
import { PostgresEventLog } from "./event-log/postgres/postgres-event-log.ts";
import { requireRelations, SETTINGS, SETTINGS_PREFIX } from "./service/configuration.ts";
import { GridrootError } from "./service/errors.ts";
import { readGrid } from "./service/grid.ts";
import { readSettings } from "./service/settings.ts";
import { PostgresTimeSeries } from "./time-series/postgres/postgres-time-series.ts";

/** What a child process needs besides settings. */
const INHERITED = ["PATH", "HOME", "LANG", "TMPDIR", "NODE_OPTIONS", "NODE_COMPILE_CACHE"];

const adapters: Adapters = {
  openEventLog: (settings, log) => PostgresEventLog.open({ connectionString: settings.postgresUrl }, { log }),
  openTimeSeries: (settings, log) =>
    PostgresTimeSeries.open({ connectionString: settings.postgresUrl }, { log }),
};

try {
  const program = buildProgram(async () => {
    const settings = readSettings(SETTINGS, process.env, SETTINGS_PREFIX);
    const grid = await readGrid(
      settings.gridFile === "" ? new URL("./config/thailand.json", import.meta.url) : settings.gridFile,
    );
    requireRelations(settings, grid.intervalLengthS);
    const inherited = INHERITED.map((name) => [name, process.env[name]] as const);
    return {
      settings,
      grid,
      adapters,
      mainFile: import.meta.filename,
      inheritedEnvironment: Object.fromEntries(
        inherited.filter((entry): entry is [string, string] => entry[1] !== undefined),
      ),
      print: (line) => process.stdout.write(`${line}\n`),
    };
  });
  await program.parseAsync(process.argv);
} catch (error) {
  process.stderr.write(
    `gridroot: ${error instanceof GridrootError ? error.message : String((error as Error).stack)}\n`,
  );
  process.exitCode = 1;
}

#!/usr/bin/env node
/**
 * The program. The only file that reads the environment; what the commands do is in `cli/`.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseEnv } from "node:util";
import { ADAPTERS } from "./cli/adapters.ts";
import { buildProgram } from "./cli/program.ts";
import { requireBackendSettings } from "./service/backends.ts";
import { requireRelations, SETTINGS, SETTINGS_PREFIX } from "./service/configuration.ts";
import { GridrootError } from "./service/errors.ts";
import { readGrid } from "./service/grid.ts";
import { withSettingFiles } from "./service/setting-files.ts";
import { readSettings } from "./service/settings.ts";

/** What a child process needs besides settings. */
const INHERITED = ["PATH", "HOME", "LANG", "TMPDIR", "NODE_OPTIONS", "NODE_COMPILE_CACHE"];

/** The environment, with the profile of the command line, and beneath it the addresses of the native stack. */
function environment(profile: string | undefined): NodeJS.Dict<string> {
  const given = profile === undefined ? process.env : { ...process.env, [SETTINGS.profile.name]: profile };
  if (given[SETTINGS.profile.name] !== "distributed") return given;
  const file = join(given[SETTINGS.stackDir.name] ?? SETTINGS.stackDir.fallback, "settings.env");
  return existsSync(file) ? { ...parseEnv(readFileSync(file, "utf8")), ...given } : given;
}

try {
  const program = buildProgram(async (flags) => {
    const settings = readSettings(
      SETTINGS,
      withSettingFiles(SETTINGS, environment(flags?.profile)),
      SETTINGS_PREFIX,
    );
    requireBackendSettings(settings);
    const grid = await readGrid(
      settings.gridFile === "" ? new URL("./config/thailand.json", import.meta.url) : settings.gridFile,
    );
    requireRelations(settings, grid.intervalLengthS);
    const inherited = INHERITED.map((name) => [name, process.env[name]] as const);
    return {
      settings,
      grid,
      adapters: ADAPTERS,
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

#!/usr/bin/env node
/**
 * The program. The only file that reads the environment and chooses adapters; what the commands do is in `cli/`.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseEnv } from "node:util";
import { buildProgram } from "./cli/program.ts";
import type { Adapters } from "./cli/context.ts";
import { deleteKafkaNamespace } from "./event-log/kafka/delete-namespace.ts";
import type { KafkaConnectionOptions } from "./event-log/kafka/kafka-connection.ts";
import { PostgresEventLog } from "./event-log/postgres/postgres-event-log.ts";
import { backendsOf, directPostgresUrl, kafkaBrokers, requireBackendSettings } from "./service/backends.ts";
import { requireRelations, SETTINGS, SETTINGS_PREFIX, type Settings } from "./service/configuration.ts";
import { GridrootError } from "./service/errors.ts";
import { readGrid } from "./service/grid.ts";
import { withSettingFiles } from "./service/setting-files.ts";
import { readSettings } from "./service/settings.ts";
import { PostgresTimeSeries } from "./time-series/postgres/postgres-time-series.ts";

/** What a child process needs besides settings. */
const INHERITED = ["PATH", "HOME", "LANG", "TMPDIR", "NODE_OPTIONS", "NODE_COMPILE_CACHE"];

const KAFKA_CONNECT_WITHIN_MS = 5_000;
const KAFKA_ANSWER_WITHIN_MS = 10_000;

const adapters: Adapters = {
  openEventLog: (settings, log) =>
    PostgresEventLog.open({ connectionString: directPostgresUrl(settings) }, { log }),
  openTimeSeries: (settings, log) =>
    PostgresTimeSeries.open({ connectionString: settings.postgresUrl }, { log }),
  async discardNamespace(settings, log) {
    if (backendsOf(settings).eventLog === "kafka")
      await deleteKafkaNamespace(kafkaOptions(settings), { log });
  },
};

function kafkaOptions(settings: Settings): KafkaConnectionOptions {
  const { kafkaSaslMechanism: mechanism, kafkaUsername: username, kafkaPassword: password } = settings;
  return {
    brokers: kafkaBrokers(settings),
    namespace: settings.namespace,
    tls: settings.kafkaTls === "on",
    ...(mechanism === "none" ? {} : { sasl: { mechanism, username, password } }),
    connectTimeoutMs: KAFKA_CONNECT_WITHIN_MS,
    requestTimeoutMs: KAFKA_ANSWER_WITHIN_MS,
  };
}

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

// `npm run test:chaos -- pipeline`: kills, pauses and outages drawn from a seed, under load; CONTRIBUTING.md, "Chaos".
// Prints a line for each fault and, last, a JSON line; the exit code is 0 only where nothing was lost or doubled.
import { parseArgs } from "node:util";
import { GridrootError } from "../../service/errors.ts";
import { distributedBackends } from "./distributed-backends.ts";
import { embeddedBackends } from "./embedded-backends.ts";
import { chaos, type ChaosDependencies, type ChaosOptions } from "./pipeline.ts";
import type { Outage } from "./plan.ts";

const USAGE =
  "usage: npm run test:chaos -- pipeline [--profile embedded|distributed] [--faults 100] [--seed N] " +
  "[--outage influxdb:180]... [--readings-per-s 2000] [--patience 1] [--keep]";

const PROFILES: Readonly<Record<string, Pick<ChaosDependencies, "prepare" | "stores">>> = {
  embedded: { prepare: () => Promise.resolve(embeddedBackends()), stores: ["postgres"] },
  distributed: { prepare: distributedBackends, stores: ["influxdb", "postgres"] },
};

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** Throws `usage` where something is not understood. */
function readArguments(): ChaosOptions {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      profile: { type: "string", default: "embedded" },
      faults: { type: "string", default: "100" },
      seed: { type: "string", default: String(Math.floor(Math.random() * 1_000_000)) },
      outage: { type: "string", multiple: true, default: [] },
      "readings-per-s": { type: "string", default: "2000" },
      patience: { type: "string", default: "1" },
      keep: { type: "boolean", default: false },
    },
  });
  const { profile, seed, keep } = values;
  if (positionals.join(" ") !== "pipeline" || !(profile in PROFILES)) throw new GridrootError("usage", USAGE);
  return {
    ...{ profile, seed, keep },
    faults: wholeNumber(values.faults),
    readingsPerS: wholeNumber(values["readings-per-s"]),
    patience: wholeNumber(values.patience),
    outages: values.outage.map(readOutage),
  };
}

function readOutage(text: string): Outage {
  const [, target, seconds] = /^([a-z0-9-]+):(\d+)$/.exec(text) ?? [];
  if (target === undefined || seconds === undefined) throw new GridrootError("usage", USAGE);
  return { target, forMs: Number(seconds) * 1000 };
}

function wholeNumber(text: string): number {
  if (!/^\d{1,6}$/.test(text)) throw new GridrootError("usage", USAGE);
  return Number(text);
}

try {
  const options = readArguments();
  print(`seed ${options.seed}, ${options.faults} faults, profile ${options.profile}`);
  const report = await chaos(options, { ...PROFILES[options.profile]!, print });
  for (const failure of report.failures) print(`FAILED ${failure}`);
  print(JSON.stringify(report));
  process.exitCode = report.failures.length === 0 ? 0 : 1;
} catch (error) {
  print(error instanceof GridrootError ? error.message : String((error as Error).stack));
  process.exitCode = 1;
}

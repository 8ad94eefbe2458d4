import { readFileSync } from "node:fs";
import { Command, Option } from "commander";
import type { Context } from "./context.ts";
import { deadLetters } from "./dead-letters.ts";
import { demo, type DemoFlags } from "./demo.ts";
import { tailLog } from "./log-tail.ts";
import { addMeter, listAllMeters, resetMeter, retireMeter, swapMeter } from "./meters.ts";
import { prepare, type PrepareFlags } from "./prepare.ts";
import { printProof, verifyProof } from "./proof.ts";
import { isRole, ROLES, type Role } from "./roles.ts";
import { runRoles } from "./run-roles.ts";
import { rebuildSeries } from "./series.ts";
import { start } from "./start.ts";
import { status } from "./status.ts";

function version(): string {
  // Compiled, this file lies one folder deeper below the package's own.
  for (const place of ["../package.json", "../../package.json"]) {
    try {
      return (JSON.parse(readFileSync(new URL(place, import.meta.url), "utf8")) as { version: string })
        .version;
    } catch {
      continue;
    }
  }
  return "unknown";
}

function roles(text: string): readonly Role[] {
  return text.split(",").map((name) => {
    if (!isRole(name))
      throw new Error(`there is no role ${JSON.stringify(name)}; the roles are ${ROLES.join(", ")}`);
    return name;
  });
}

function whole(text: string): number {
  if (!/^\d+$/.test(text)) throw new Error("expected a whole number");
  return Number(text);
}

/** What the command line sets of the settings. */
export interface SettingFlags {
  readonly profile?: string;
}

function profileOption(): Option {
  return new Option("--profile <name>", "embedded or distributed; by default that of GRIDROOT_PROFILE");
}

/**
 * The command line. `open` reads settings and grid file; it is called once, by the command that runs, so that
 * `--help` works whatever the environment holds.
 */
export function buildProgram(open: (flags?: SettingFlags) => Promise<Context>): Command {
  const program = new Command("gridroot")
    .description("From a smart meter's reading to an energy credit proven on chain.")
    .version(version())
    .showHelpAfterError();

  program
    .command("start")
    .description("run everything on this machine, or with --roles some roles of a larger deployment")
    .addOption(new Option("--roles <names>", `comma-separated: ${ROLES.join(", ")}`).argParser(roles))
    .addOption(profileOption())
    .option("--no-simulators", "without simulated meters")
    .option(
      "--reset-chain",
      "forget the local chain and everything settled on it, after its contract has changed",
    )
    .action(
      async (
        flags: SettingFlags & { roles?: readonly Role[]; simulators: boolean; resetChain?: boolean },
      ) => {
        const context = await open(flags);
        if (flags.roles === undefined) await start(context, flags);
        else await runRoles(context, flags.roles);
      },
    );

  program
    .command("demo")
    .description(
      "drive a day of simulated meters through the whole pipeline in a temporary folder, and reconcile it",
    )
    .addOption(profileOption())
    .option("--day <date>", "UTC day, YYYY-MM-DD; yesterday by default")
    .option("--meters <n>", "meters in all, spread over the regions", whole, 210)
    .option("--intervals <n>", "how many intervals of the day", whole, 96)
    .option("--seed <text>", "seed of meters and faults", "gridroot")
    .option("--workers <n>", "ingest workers", whole, 2)
    .option("--json", "end with one JSON line")
    .option("--keep", "keep the temporary folder")
    .action(async (flags: SettingFlags & DemoFlags) => {
      const exact = await demo(await open(flags), flags);
      if (!exact) process.exitCode = 1;
    });

  program
    .command("prepare")
    .description("create schemas, regions and topics, before the roles of a deployment start")
    .option(
      "--local-contract <file>",
      "deploy the contract on a local chain, and write its address to a file",
    )
    .action(async (flags: PrepareFlags) => prepare(await open(), flags));

  const meters = program.command("meters").description("the registry: what is at which service point");
  meters
    .command("add")
    .description("commission a meter; prints its MQTT secret once")
    .argument("<meterId>")
    .requiredOption("--region <name>")
    .requiredOption("--account <address>", "EVM address that is credited")
    .option("--service-point <id>", "the meter id by default")
    .option("--import-wh <wh>", "import register now", "0")
    .option("--export-wh <wh>", "export register now", "0")
    .option("--modulus-wh <wh>", "where the registers wrap", "1000000000")
    .option("--max-power-w <w>", "most that the connection carries", whole, 100_000)
    .option(
      "--at <time>",
      "when it takes effect, ISO or unix seconds, not in the future; the last interval boundary by default",
    )
    .action(async (meterId: string, flags) => addMeter(await open(), { meterId, ...flags }));
  meters
    .command("list")
    .description("meters as JSON lines")
    .option("--region <name>")
    .action(async (flags: { region?: string }) => listAllMeters(await open(), flags));
  meters
    .command("swap")
    .description("replace the meter at a service point; prints the new one's MQTT secret once")
    .argument("<meterId>", "the meter that goes")
    .argument("<newMeterId>", "the meter that comes")
    .requiredOption("--final-import-wh <wh>", "last import register of the meter that goes")
    .requiredOption("--final-export-wh <wh>", "last export register of the meter that goes")
    .option("--import-wh <wh>", "first import register of the meter that comes", "0")
    .option("--export-wh <wh>", "first export register of the meter that comes", "0")
    .option("--modulus-wh <wh>", "where the new registers wrap; as before by default")
    .option("--max-power-w <w>", "most that the connection carries; as before by default", whole)
    .option("--at <time>", "when it takes effect, ISO or unix seconds, not in the future; now by default")
    .action(async (meterId: string, newMeterId: string, flags) =>
      swapMeter(await open(), { meterId, newMeterId, ...flags }),
    );
  meters
    .command("reset")
    .description("the registers of a meter have started again: close its epoch and open the next")
    .argument("<meterId>")
    .requiredOption("--final-import-wh <wh>", "last import register of the old epoch")
    .requiredOption("--final-export-wh <wh>", "last export register of the old epoch")
    .option("--import-wh <wh>", "first import register of the new epoch", "0")
    .option("--export-wh <wh>", "first export register of the new epoch", "0")
    .option("--at <time>", "when it happened, ISO or unix seconds; now by default")
    .action(async (meterId: string, flags) => resetMeter(await open(), { meterId, ...flags }));
  meters
    .command("retire")
    .description("end a service point")
    .argument("<meterId>")
    .requiredOption("--final-import-wh <wh>")
    .requiredOption("--final-export-wh <wh>")
    .option("--at <time>", "when it takes effect, ISO or unix seconds, not in the future; now by default")
    .action(async (meterId: string, flags) => retireMeter(await open(), { meterId, ...flags }));

  program
    .command("proof")
    .description("print the proof bundle of an account's or meter's credit as JSON")
    .argument("<accountOrMeterId>")
    .option("--interval <time>", "interval end, ISO or unix seconds; the newest settled one by default")
    .action(async (subject: string, flags: { interval?: string }) =>
      printProof(await open(), subject, flags),
    );
  program
    .command("verify")
    .description("check a proof bundle, offline and, given an RPC endpoint, against the chain")
    .argument("<bundle>", "file, or - for standard input")
    .option("--rpc <url>", "JSON-RPC endpoint of the chain")
    .action(async (bundle: string, flags: { rpc?: string }) => {
      const context = await open();
      if (!(await verifyProof(context, bundle, flags))) process.exitCode = 1;
    });

  program
    .command("log")
    .description("the event log")
    .command("tail")
    .description("print records as JSON lines")
    .argument("<topic>", "region name, or dead-letters")
    .option("-n, --records <n>", "how many of the newest, over all partitions", whole, 10)
    .option("-f, --follow", "go on as they come")
    .action(async (topic: string, flags: { records: number; follow?: boolean }) =>
      tailLog(await open(), topic, flags),
    );
  program
    .command("dead-letters")
    .description("what could not be read or was not allowed, and what validation set aside, as JSON lines")
    .option("-n, --records <n>", "how many of the newest of each", whole, 20)
    .option("--meter <id>", "of one meter")
    .option("--payload", "with the original bytes in base64")
    .action(async (flags: { records: number; meter?: string; payload?: boolean }) =>
      deadLetters(await open(), flags),
    );
  program
    .command("series")
    .description("the time series")
    .command("rebuild")
    .description("write it anew from all that the log still holds")
    .option("--region <name>", "of one region")
    .action(async (flags: { region?: string }) => rebuildSeries(await open(), flags));
  program
    .command("status")
    .description("how far each region is and whether every figure adds up")
    .option("--json", "as JSON")
    .action(async (flags: { json?: boolean }) => {
      if (!(await status(await open(), flags))) process.exitCode = 1;
    });
  return program;
}

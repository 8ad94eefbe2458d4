import assert from "node:assert/strict";
import { test } from "node:test";
import { runProgram } from "./support/program.ts";

/** The same meters, readings and faults on either profile. */
const DEMO = [
  "demo",
  "--meters",
  "42",
  "--intervals",
  "12",
  "--seed",
  "either",
  "--day",
  "2026-03-01",
  "--json",
];

interface Figures {
  readonly readingsSent: number;
  readonly appended: number;
  readonly recorded: number;
  readonly deadLettered: number;
  readonly batches: number;
  readonly trueExportWh: string;
  readonly creditedWh: string;
  readonly settledWh: string;
  readonly unreconciledWh: string;
  readonly proofsChecked: number;
}

interface Report {
  readonly regions: Readonly<Record<string, Figures>>;
  readonly total: Figures;
}

async function demo(profile: string): Promise<Report> {
  const environment = { GRIDROOT_STACK_DIR: process.env["TEST_STACK_DIR"] ?? ".gridroot/stack" };
  const { code, lines, errors } = await runProgram([...DEMO, "--profile", profile], environment);
  assert.equal(code, 0, [...lines, ...errors].join("\n"));
  return JSON.parse(lines.at(-1) ?? "") as Report;
}

/** What follows from the seed alone, whatever was sent twice on the way. */
function settled({ regions, total }: Report) {
  const figures = Object.entries({ ...regions, total }).map(([name, one]) => {
    const { trueExportWh, creditedWh, settledWh, unreconciledWh, recorded, batches, proofsChecked } = one;
    return [
      name,
      { trueExportWh, creditedWh, settledWh, unreconciledWh, recorded, batches, proofsChecked },
    ] as const;
  });
  return Object.fromEntries(figures);
}

test("the same seed settles the same energy on Kafka, InfluxDB and Redis as on PostgreSQL alone, to the Wh", async () => {
  const embedded = await demo("embedded");
  const distributed = await demo("distributed");
  assert.deepEqual(settled(distributed), settled(embedded));
  assert.equal(distributed.total.unreconciledWh, "0");
  assert.ok(BigInt(distributed.total.settledWh) > 0n);
});

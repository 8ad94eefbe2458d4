import assert from "node:assert/strict";
import { chmod, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { freePort } from "../cli/ports.ts";
import { chainProvider, settlementClient } from "../contracts/client.ts";
import type { Hex } from "../domain/settlement/settlement.ts";
import { Program } from "./support/program.ts";
import { until } from "./support/until.ts";

const folder = await mkdtemp(join(tmpdir(), "gridroot-restart-"));
await chmod(folder, 0o755);
const [mqttPort, httpPort, chainPort] = [await freePort(), await freePort(), await freePort()];
const environment = {
  GRIDROOT_DATA_DIR: folder,
  GRIDROOT_MQTT_PORT: String(mqttPort),
  GRIDROOT_HTTP_PORT: String(httpPort),
  GRIDROOT_CHAIN_PORT: String(chainPort),
  GRIDROOT_SIMULATED_METERS_PER_REGION: "2",
  GRIDROOT_SEAL_GRACE_MS: "1000",
};

let program: Program | undefined;
after(async () => {
  program?.kill("SIGINT");
  await program?.end();
  await rm(folder, { recursive: true, force: true });
});

/** Starts the program and waits until it has settled `batches` more. */
async function startUntilSettled(batches: number): Promise<Program> {
  const started = new Program(["start"], environment);
  program = started;
  await started.line(/^chain /);
  const settled = () => started.lines.filter((line) => line.startsWith("settled ")).length;
  await until(`${batches} batches are settled`, () => settled() >= batches, 90_000).catch(
    async (cause: unknown) => {
      const log = await readFile(join(folder, "gridroot.log"), "utf8");
      throw new Error(
        [...started.lines.slice(-5), ...started.errors, ...log.split("\n").slice(-10)].join("\n"),
        { cause },
      );
    },
  );
  return started;
}

/** What the contract has accepted, as `region interval`, in the chain's order. */
async function settledOnChain(started: Program): Promise<readonly string[]> {
  const contract = (await started.line(/^chain /)).match(/contract (0x[0-9a-f]{40})/)?.[1] as Hex;
  const provider = chainProvider(`http://127.0.0.1:${chainPort}`, 31_337);
  try {
    const settled = await settlementClient(contract, provider).readSettled({
      fromBlock: 0,
      toBlock: "latest",
    });
    return settled.map(({ region, interval }) => `${region} ${interval}`);
  } finally {
    provider.destroy();
  }
}

test("a start goes on where Ctrl-C or kill -9 ended the last one, and settles no interval twice", async () => {
  const first = await startUntilSettled(21);
  assert.match(first.lines[0] ?? "", /^MQTT {3}127\.0\.0\.1:\d+$/);
  assert.ok(first.lines.some((line) => line.startsWith("replaying ")));
  const before = await settledOnChain(first);
  first.kill("SIGINT");
  assert.equal(await first.end(), 0);
  assert.equal(first.lines.at(-1), "stopped");

  const second = await startUntilSettled(14);
  const between = await settledOnChain(second);
  assert.deepEqual(between.slice(0, before.length), before, "the chain is the same one");
  second.kill("SIGKILL");
  await second.end();

  const third = await startUntilSettled(14);
  const last = await settledOnChain(third);
  assert.deepEqual(last.slice(0, between.length), between, "the chain is the same one");
  assert.equal(new Set(last).size, last.length, "no interval is settled twice");
  third.kill("SIGINT");
  assert.equal(await third.end(), 0);
  program = undefined;
});

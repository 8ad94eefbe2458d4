import assert from "node:assert/strict";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { connectAsync } from "mqtt";
import { freePort } from "../cli/ports.ts";
import { Program, runProgram } from "./support/program.ts";

const folder = await mkdtemp(join(tmpdir(), "gridroot-command-line-"));
await chmod(folder, 0o755);
const [mqttPort, httpPort, chainPort] = [await freePort(), await freePort(), await freePort()];
const environment = {
  GRIDROOT_DATA_DIR: folder,
  GRIDROOT_MQTT_PORT: String(mqttPort),
  GRIDROOT_HTTP_PORT: String(httpPort),
  GRIDROOT_CHAIN_PORT: String(chainPort),
  GRIDROOT_SEAL_GRACE_MS: "1000",
};
const ACCOUNT = "0x1111111111111111111111111111111111111111";
/** A boundary some intervals ago: what the meter reports lies in intervals that are over. */
const BEGIN = Math.floor(Date.now() / 1000 / 900) * 900 - 4 * 900;

let running: Program | undefined;

before(async () => {
  running = new Program(["start", "--no-simulators"], environment);
  await running.line(/^chain /);
});

after(async () => {
  running?.kill("SIGINT");
  await running?.end();
  await rm(folder, { recursive: true, force: true });
});

async function succeed(...args: string[]): Promise<readonly string[]> {
  const { code, lines, errors } = await runProgram(args, environment);
  assert.equal(code, 0, `gridroot ${args.join(" ")}: ${errors.join("\n")}`);
  return lines;
}

test("--help lists the commands, whatever the environment holds", async () => {
  const { code, lines } = await runProgram(["--help"], { GRIDROOT_MQTT_PORT: "nonsense" });
  assert.equal(code, 0);
  for (const command of ["start", "demo", "meters", "proof", "verify", "log", "dead-letters", "status"]) {
    assert.ok(
      lines.some((line) => line.trim().startsWith(command)),
      command,
    );
  }
});

test("mistaken settings are all named, and nothing is started", async () => {
  const { code, errors } = await runProgram(["start"], {
    GRIDROOT_MQTT_PORT: "70000",
    GRIDROOT_HTTP_PROT: "1",
  });
  assert.equal(code, 1);
  assert.match(errors.join("\n"), /GRIDROOT_MQTT_PORT: expected a whole number from 1 to 65535/);
  assert.match(errors.join("\n"), /GRIDROOT_HTTP_PROT: there is no such setting/);
});

test("a second start on the same data is refused and leaves the first alone", async () => {
  const others = {
    GRIDROOT_MQTT_PORT: String(await freePort()),
    GRIDROOT_HTTP_PORT: String(await freePort()),
    GRIDROOT_CHAIN_PORT: String(await freePort()),
  };
  const { code, errors } = await runProgram(["start"], { ...environment, ...others });
  assert.equal(code, 1);
  assert.match(errors.join("\n"), /another `gridroot start` runs/);
  const health = await fetch(`http://127.0.0.1:${httpPort}/ready`);
  assert.equal(health.status, 200, await health.text());
});

test("a meter added by hand publishes, is seen over HTTP, is in the next batch, and its proof verifies", async () => {
  const added = JSON.parse(
    (
      await succeed(
        "meters",
        "add",
        "my-meter",
        "--region",
        "bangkok",
        "--account",
        ACCOUNT,
        "--at",
        String(BEGIN),
      )
    ).at(-1) ?? "",
  ) as { username: string; password: string; clientId: string; topic: string };

  const { username, password, clientId, topic } = added;
  const client = await connectAsync(`mqtt://127.0.0.1:${mqttPort}`, {
    username,
    password,
    clientId,
    protocolVersion: 4,
  });
  const readings = [
    { seq: 1, t: BEGIN + 450, importWh: 3, exportWh: 1000 },
    { seq: 2, t: BEGIN + 900, importWh: 3, exportWh: 2500 },
  ];
  for (const reading of readings) await client.publishAsync(topic, JSON.stringify(reading), { qos: 1 });
  await client.publishAsync(topic, "{", { qos: 1 });
  await client.endAsync();

  const query = `from=${BEGIN}&to=${BEGIN + 900}&resolution=raw`;
  const seen = await eventually(async () => {
    const response = await fetch(`http://127.0.0.1:${httpPort}/api/v1/meters/my-meter/readings?${query}`);
    const body = JSON.stringify(await response.json());
    return body.includes('"2500"') ? body : undefined;
  });
  assert.match(seen, /"1000"/);

  const settled = await running!.line(/^settled bangkok/);
  assert.match(settled, /\+2500 Wh/);
  const bundle = join(folder, "bundle.json");
  await eventually(async () => {
    const { code, lines } = await runProgram(["proof", "my-meter"], environment);
    if (code !== 0) return undefined;
    await writeFile(bundle, lines.join("\n"));
    const verified = await runProgram(
      ["verify", bundle, "--rpc", `http://127.0.0.1:${chainPort}`],
      environment,
    );
    return verified.code === 0 ? verified.lines : undefined;
  });

  const forged = join(folder, "forged.json");
  const { readFile } = await import("node:fs/promises");
  await writeFile(forged, (await readFile(bundle, "utf8")).replaceAll('"2500"', '"2501"'));
  const refused = await runProgram(["verify", forged], environment);
  assert.equal(refused.code, 1);

  const letters = await succeed("dead-letters", "--meter", "my-meter", "--payload");
  assert.equal(JSON.parse(letters[0] ?? "").payloadBase64, Buffer.from("{").toString("base64"));
  assert.ok((await succeed("log", "tail", "bangkok")).some((line) => line.includes("exportWh")));
  assert.ok((await succeed("meters", "list")).some((line) => line.includes("my-meter")));
  assert.ok((await succeed("status")).some((line) => line.startsWith("bangkok")));
});

test("a swap hands the service point over, and the old meter may not connect any more", async () => {
  const swapped = JSON.parse(
    (
      await succeed(
        ...["meters", "swap", "my-meter", "my-second-meter", "--at", String(BEGIN + 1000)],
        ...["--final-import-wh", "4", "--final-export-wh", "2600", "--export-wh", "7"],
      )
    ).at(-1) ?? "",
  ) as { clientId: string };
  assert.equal(swapped.clientId, "my-second-meter");
  const again = await runProgram(
    ["meters", "swap", "my-meter", "third", "--final-import-wh", "4", "--final-export-wh", "2600"],
    environment,
  );
  assert.equal(again.code, 1);
  assert.match(again.errors.join("\n"), /is retired/);
});

test("a reset opens the meter's next epoch, and a retired meter is gone from the active ones", async () => {
  const final = ["--final-import-wh", "4", "--final-export-wh", "9"];
  const reset = await succeed("meters", "reset", "my-second-meter", "--at", String(BEGIN + 1200), ...final);
  assert.deepEqual(JSON.parse(reset.at(-1) ?? ""), { meterId: "my-second-meter", epoch: 1 });
  const last = ["--final-import-wh", "0", "--final-export-wh", "0"];
  await succeed("meters", "retire", "my-second-meter", "--at", String(BEGIN + 1300), ...last);
  const listed = (await succeed("meters", "list", "--region", "bangkok")).map((line) => JSON.parse(line));
  assert.ok(listed.find(({ meterId }) => meterId === "my-second-meter").retiredAt !== undefined);
});

/** Tries until there is an answer. */
async function eventually<T>(attempt: () => Promise<T | undefined>, withinMs = 30_000): Promise<T> {
  const deadline = Date.now() + withinMs;
  for (;;) {
    const answer = await attempt();
    if (answer !== undefined) return answer;
    if (Date.now() > deadline) throw new Error(`no answer within ${withinMs} ms`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

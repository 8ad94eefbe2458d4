import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Redis } from "ioredis";
import { freePort } from "./ports.ts";
import { serversOn } from "./processes.ts";
import { settingsOf, stackOptionsFrom } from "./stack.ts";

const run = promisify(execFile);
const main = fileURLToPath(new URL("main.ts", import.meta.url));
const folder = await mkdtemp(join(tmpdir(), "gridroot-test-stack-"));
const environment = {
  ...process.env,
  GRIDROOT_STACK_DIR: folder,
  GRIDROOT_STACK_POSTGRES_PORT: String(await freePort()),
  GRIDROOT_STACK_REDIS_PORT: String(await freePort()),
  GRIDROOT_STACK_INFLUX_PORT: String(await freePort()),
  GRIDROOT_STACK_KAFKA_PORT: String(await freePort()),
  GRIDROOT_STACK_KAFKA_CONTROLLER_PORT: String(await freePort()),
};
const options = stackOptionsFrom(environment);

after(async () => {
  await stack("down");
  await rm(folder, { recursive: true, force: true });
});

async function stack(command: string): Promise<{ stdout: string; stderr: string; code: number }> {
  return run(process.execPath, [main, command], { env: environment }).then(
    (printed) => ({ ...printed, code: 0 }),
    (error: { stdout: string; stderr: string; code: number }) => error,
  );
}

/** Name of each server and its process, 0 where it is down. */
async function pids(): Promise<Record<string, number>> {
  const { stdout } = await stack("status");
  const lines = stdout.trim().split("\n");
  for (const line of lines)
    assert.match(line, /^\w+ +[\d.]+ +127\.0\.0\.1:\d+ +(?:up {2}pid \d+|down|no answer.*)$/);
  return Object.fromEntries(
    lines.map((line) => [line.split(" ")[0], Number(/ up {2}pid (\d+)$/.exec(line)?.[1] ?? 0)]),
  );
}

test("a port that another program has stops the start, and the next start completes the stack", async () => {
  const other = createServer();
  await new Promise<void>((done) => {
    other.listen(options.ports.GRIDROOT_STACK_KAFKA_PORT, "127.0.0.1", done);
  });
  const refused = await stack("up");
  assert.equal(refused.code, 1);
  assert.match(
    refused.stderr,
    new RegExp(`^port ${options.ports.GRIDROOT_STACK_KAFKA_PORT} of kafka is taken by another program`),
  );
  await new Promise((done) => other.close(done));
  const half = await pids();
  assert.equal(half["kafka"], 0);
  assert.ok(half["redis"]);

  const completed = await stack("up");
  assert.equal(completed.code, 0, completed.stderr);
  assert.match(completed.stdout, /^kafka [\d.]+ up at 127\.0\.0\.1:\d+ in [\d.]+ s\nstack up after [\d.]+ s/);
  const whole = await pids();
  assert.ok(Object.values(whole).every((pid) => pid > 0));
  assert.deepEqual({ ...whole, kafka: 0 }, half);
});

test("a second start changes nothing; the settings are the owner's alone and lead to the servers", async () => {
  const before = await pids();
  const again = await stack("up");
  assert.match(again.stdout, /^stack up after/);
  assert.deepEqual(await pids(), before);
  assert.equal((await stat(join(folder, "settings.env"))).mode & 0o777, 0o600);
  const settings = await settingsOf(options);
  assert.deepEqual(Object.keys(settings), [
    "GRIDROOT_POSTGRES_URL",
    "GRIDROOT_KAFKA_BROKERS",
    "GRIDROOT_KAFKA_REPLICATION",
    "GRIDROOT_KAFKA_MIN_INSYNC_REPLICAS",
    "GRIDROOT_INFLUX_URL",
    "GRIDROOT_INFLUX_ORG",
    "GRIDROOT_INFLUX_TOKEN",
    "GRIDROOT_REDIS_URL",
  ]);
  const client = new Redis(settings["GRIDROOT_REDIS_URL"] ?? "");
  await client.set("kept", "over a stop");
  client.disconnect();
});

test("two starts at the same time start each server once", async () => {
  await stack("down");
  const both = await Promise.all([stack("up"), stack("up")]);
  assert.deepEqual(
    both.map(({ code }) => code),
    [0, 0],
  );
  const starts = both.flatMap(({ stdout }) => stdout.split("\n")).filter((line) => line.includes(" up at "));
  assert.equal(starts.length, 4, starts.join("\n"));
});

test("a server asked for on another port than it has is refused, and not started twice", async () => {
  const env = { ...environment, GRIDROOT_STACK_REDIS_PORT: String(await freePort()) };
  await assert.rejects(
    run(process.execPath, [main, "up"], { env }),
    /redis runs on port \d+, not on \d+: stop it/,
  );
});

test("stop ends the servers in the reverse order of their start, leaves no process, and keeps the data", async () => {
  const { stdout } = await stack("down");
  assert.match(
    stdout,
    /^kafka stopped in .*\ninfluxdb stopped in .*\nredis stopped in .*\npostgres stopped in .*\nstack down\n$/,
  );
  assert.deepEqual(serversOn([`${folder}/`]), []);
  assert.ok(Object.values(await pids()).every((pid) => pid === 0));
  assert.equal((await stack("down")).stdout, "stack down\n");
  await stack("up");
  const client = new Redis((await settingsOf(options))["GRIDROOT_REDIS_URL"] ?? "");
  assert.equal(await client.get("kept"), "over a stop");
  client.disconnect();
});

test("a process whose record is lost is found when the stack goes down", async () => {
  const record = join(folder, "redis", "process.json");
  const { pid } = JSON.parse(await readFile(record, "utf8")) as { pid: number };
  await rm(record);
  const { code, stderr } = await stack("down");
  assert.equal(code, 1);
  assert.equal(stderr, `processes of the stack are left: ${pid}\n`);
  process.kill(pid);
});

test("a wrong command and a wrong port say what is meant", async () => {
  assert.deepEqual(
    { ...(await stack("sideways")), cmd: "" }.stderr,
    "usage: node deploy/stack/main.ts up|down|status\n",
  );
  assert.throws(() => stackOptionsFrom({ GRIDROOT_STACK_KAFKA_PORT: "high" }), { code: "setting-invalid" });
});

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import pg from "pg";
import { pino } from "pino";
import { ADAPTERS } from "../cli/adapters.ts";
import { freePort } from "../cli/ports.ts";
import { SETTINGS, SETTINGS_PREFIX } from "../service/configuration.ts";
import { readSettings } from "../service/settings.ts";
import { type ComposeService, COMPOSE_FOLDER, ownServices, readComposeFile } from "./support/compose-file.ts";
import { Deployment, type MeterAccess, publishReadings } from "./support/deployment.ts";
import { createTestDatabase } from "./support/postgres.ts";
import { settlementCounts } from "./support/settlement-counts.ts";
import { until } from "./support/until.ts";

// What the image holds and the compose file starts, run natively on the stack's servers: no engine is needed.
const root = fileURLToPath(new URL("../", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "gridroot-compose-run-"));
const compose = readComposeFile();
const url = await createTestDatabase();
const database = new pg.Pool({ connectionString: url, max: 2, options: "-c search_path=ledger" });
const ports = { mqtt: await freePort(), http: await freePort(), chain: await freePort() };
const BEGIN = Math.floor(Date.now() / 1000 / 900) * 900 - 4 * 900;

/** Builds the package from what the Dockerfile copies, and installs it as the Dockerfile does. */
function installedAsInTheImage(): string {
  const dockerfile = readFileSync(join(root, "Dockerfile"), "utf8").replaceAll(/ \\\n\s*/g, " ");
  const build = join(folder, "build");
  for (const [, sources] of dockerfile.matchAll(/^COPY (?!--from)(.+) \S+$/gm)) {
    for (const source of (sources ?? "").split(" ")) {
      mkdirSync(dirname(join(build, source)), { recursive: true });
      cpSync(join(root, source), join(build, source), { recursive: true });
    }
  }
  symlinkSync(join(root, "node_modules"), join(build, "node_modules"));
  const install = /^RUN mkdir packed (.+)$/m.exec(dockerfile)?.[1] ?? "";
  const commands = `mkdir packed ${install.replaceAll("/opt/gridroot", join(folder, "opt"))}`;
  execFileSync("sh", ["-c", commands], { cwd: build, stdio: ["ignore", "ignore", "inherit"] });
  return join(folder, "opt/bin/gridroot");
}

/** What a service is given in its container, with the native stack's addresses in place of the containers'. */
function nativeEnvironment(name: string, service: ComposeService): Record<string, string> {
  const stack = (variable: string) => process.env[variable.replace(/^GRIDROOT_/, "TEST_")] ?? "";
  const environment: Record<string, string> = {
    GRIDROOT_NAMESPACE: `compose-${process.pid}`,
    GRIDROOT_DATA_DIR: name === "chain" || name === "prepare" ? join(folder, "chain") : join(folder, name),
    GRIDROOT_SEAL_GRACE_MS: "1000",
    // Where the containers have addresses of their own, here they are one machine.
    ...(name === "chain" ? { GRIDROOT_CHAIN_PORT: String(ports.chain) } : {}),
  };
  for (const [variable, value] of Object.entries(service.environment)) {
    switch (variable) {
      case "GRIDROOT_POSTGRES_URL_FILE":
        environment["GRIDROOT_POSTGRES_URL"] = url;
        break;
      case "GRIDROOT_REDIS_URL_FILE":
        environment["GRIDROOT_REDIS_URL"] = stack("GRIDROOT_REDIS_URL");
        break;
      case "GRIDROOT_INFLUX_TOKEN_FILE":
        environment["GRIDROOT_INFLUX_TOKEN"] = stack("GRIDROOT_INFLUX_TOKEN");
        break;
      case "GRIDROOT_KAFKA_BROKERS":
      case "GRIDROOT_INFLUX_URL":
      case "GRIDROOT_INFLUX_ORG":
        environment[variable] = stack(variable);
        break;
      case "GRIDROOT_CHAIN_RPC_URL":
        environment[variable] = value.replace("chain:8545", `127.0.0.1:${ports.chain}`);
        break;
      case "GRIDROOT_API_URL":
        environment[variable] = value.replace("api:8080", `127.0.0.1:${ports.http}`);
        break;
      case "GRIDROOT_HTTP_PORT":
        environment[variable] = String(ports.http);
        break;
      case "GRIDROOT_MQTT_PORT":
        environment[variable] = String(ports.mqtt);
        break;
      default:
        environment[variable] = inFolder(value).replace(/^0\.0\.0\.0$/, "127.0.0.1");
    }
  }
  return environment;
}

/** The containers' places as folders of the test. */
function inFolder(path: string): string {
  return path
    .replace("/run/secrets/", join(folder, "secrets/"))
    .replace("/var/lib/gridroot-deployment/", join(folder, "deployment/"));
}

const deployment = new Deployment([installedAsInTheImage()]);

after(async () => {
  await deployment.stopAll();
  await database.end();
  const aggregator = new Map(ownServices(compose)).get("aggregator")!;
  const settings = readSettings(SETTINGS, nativeEnvironment("aggregator", aggregator), SETTINGS_PREFIX);
  await ADAPTERS.discardNamespace(settings, pino({ level: "silent" }));
  rmSync(folder, { recursive: true, force: true });
});

async function up(): Promise<void> {
  execFileSync("sh", [join(COMPOSE_FOLDER, "secrets.sh"), join(folder, "secrets")]);
  mkdirSync(join(folder, "deployment"));
  mkdirSync(join(folder, "chain"));
  cpSync(join(folder, "secrets/keys.json"), join(folder, "chain/keys.json"));
  const services = new Map(ownServices(compose));
  const started = async (name: string) => {
    const service = services.get(name)!;
    await deployment.start(name, service.command ?? [], nativeEnvironment(name, service));
  };
  await started("chain");
  const prepare = services.get("prepare")!;
  await deployment.run((prepare.command ?? []).map(inFolder), nativeEnvironment("prepare", prepare));
  await Promise.all([...services.keys()].filter((name) => !/^(chain|prepare)$/.test(name)).map(started));
}

test("the image's package, started as the compose file says, settles what a meter reports", async () => {
  await up();
  const aggregator = new Map(ownServices(compose)).get("aggregator")!;
  const environment = nativeEnvironment("aggregator", aggregator);
  const account = "0x1111111111111111111111111111111111111111";
  const added = await deployment.run(
    ["meters", "add", "my-meter", "--region", "bangkok", "--account", account, "--at", String(BEGIN)],
    environment,
  );
  await publishReadings(ports.mqtt, JSON.parse(added.at(-1) ?? "") as MeterAccess, [
    { seq: 1, t: BEGIN + 450, importWh: 3, exportWh: 1000 },
    { seq: 2, t: BEGIN + 900, importWh: 3, exportWh: 2500 },
  ]);
  await until("the batch is final", async () => (await settlementCounts(database)).final === 1, 40_000);
  await until("the readings are shown", async () => {
    const query = `from=${BEGIN}&to=${BEGIN + 900}&resolution=raw`;
    const response = await fetch(`http://127.0.0.1:${ports.http}/api/v1/meters/my-meter/readings?${query}`);
    return /"1000".*"2500"/.test(JSON.stringify(await response.json()));
  });
  const ready = await fetch(`http://127.0.0.1:${ports.http}/ready`);
  assert.equal(ready.status, 200, await ready.text());
  for (const [name] of ownServices(compose)) {
    if (name !== "prepare")
      assert.match(await deployment.metrics(name), /^process_cpu_seconds_total /m, name);
  }
});

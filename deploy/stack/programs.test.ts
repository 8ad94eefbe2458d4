import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { promisify } from "node:util";
import {
  CARGO,
  C_COMPILER,
  FLOCK,
  GO,
  JAVA,
  MAVEN,
  PGBOUNCER,
  REDIS_SERVER,
  findProgram,
  postgresProgram,
} from "./programs.ts";
import { VERSIONS } from "./versions.ts";

const run = promisify(execFile);

for (const [program, command] of [
  [REDIS_SERVER, "apt-get install -y redis-server"],
  [PGBOUNCER, "apt-get install -y pgbouncer"],
  [postgresProgram("postgres"), "apt-get install -y postgresql"],
  [JAVA, "apt-get install -y openjdk-17-jre-headless"],
  [MAVEN, "apt-get install -y maven"],
  [GO, "https://go.dev/dl"],
  [CARGO, "https://rustup.rs"],
  [C_COMPILER, "apt-get install -y gcc"],
  [FLOCK, "apt-get install -y util-linux"],
] as const) {
  test(`a missing ${program.command} is named with what installs it`, () => {
    assert.throws(
      () => findProgram({ ...program, folders: [] }, ""),
      (error: Error & { code?: string }) =>
        error.code === "program-missing" &&
        error.message.startsWith(`${program.command} is not installed`) &&
        error.message.includes(command),
    );
  });
}

test("a program is found in the PATH before its own folders, and in those where the PATH lacks it", async () => {
  const program = { command: "env", install: "", folders: ["/bin"] };
  assert.equal(findProgram(program, "/nowhere:/usr/bin"), "/usr/bin/env");
  assert.equal(findProgram(program, ""), "/bin/env");
});

test("a server whose program is missing does not start, and says what installs it", async () => {
  const script = `
    import { startRedis } from ${JSON.stringify(new URL("redis.ts", import.meta.url).href)};
    import { mkdtempSync, rmSync } from "node:fs";
    const dataDir = mkdtempSync("/tmp/gridroot-test-missing-");
    try { await startRedis({ dataDir }); }
    catch (error) { console.log(error.code, error.message); }
    finally { rmSync(dataDir, { recursive: true }); }`;
  const { stdout } = await run(process.execPath, ["--input-type=module", "--eval", script], {
    env: { PATH: "" },
  });
  assert.match(stdout, /^program-missing redis-server is not installed.*install-debian\.sh/);
});

test("the module that builds InfluxDB, and the script of Debian's packages, agree with the versions' one place", async () => {
  const goMod = await readFile(new URL("influxdb/go.mod", import.meta.url), "utf8");
  assert.ok(goMod.includes(`github.com/influxdata/influxdb/v2 v${VERSIONS.influxdb} `));
  const script = await readFile(new URL("install-debian.sh", import.meta.url), "utf8");
  for (const name of ["postgresql", "redis-server", "pgbouncer"]) assert.ok(script.includes(name), name);
});

import { randomBytes } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { installOnce, runToEnd } from "./install.ts";
import { NativeProcess } from "./native-server.ts";
import type { Lifetime, NativeServer } from "./native-server.ts";
import { freePort } from "./ports.ts";
import { CARGO, C_COMPILER, GO, RUSTUP, findProgram } from "./programs.ts";
import { secretIn } from "./secret.ts";
import { VERSIONS } from "./versions.ts";

export interface InfluxOptions {
  readonly dataDir: string;
  /** A free one where absent. */
  readonly port?: number;
}

export interface InfluxAddress {
  readonly url: string;
  readonly org: string;
  /** The operator's token: may do everything. Random, kept in the data folder. */
  readonly token: string;
}

const ORG = "gridroot";
const MODULE = fileURLToPath(new URL("influxdb/", import.meta.url));

/** InfluxDB 2, set up with one organisation and a token. Defined, not started. */
export async function influxServer(
  options: InfluxOptions,
  lifetime: Lifetime = {},
): Promise<NativeProcess & InfluxAddress> {
  const port = options.port ?? (await freePort());
  const url = `http://127.0.0.1:${port}`;
  const token = await secretIn(options.dataDir, "token");
  const data = join(options.dataDir, "data");
  const server = new NativeProcess(
    {
      name: "influxdb",
      dataDir: options.dataDir,
      port,
      stopSignal: "SIGTERM",
      startWithinMs: 60_000,
      stopWithinMs: 20_000,
      async prepare() {
        const command = await installInflux();
        await mkdir(data, { recursive: true });
        return {
          command,
          args: [
            ...["--http-bind-address", `127.0.0.1:${port}`, "--reporting-disabled", "--log-level", "error"],
            ...["--bolt-path", join(data, "influxd.bolt"), "--sqlite-path", join(data, "influxd.sqlite")],
            ...["--engine-path", join(data, "engine")],
          ],
          env: { INFLUXD_CONFIG_PATH: data },
        };
      },
      async answer() {
        const health = await fetch(`${url}/health`, { signal: AbortSignal.timeout(2_000) });
        await health.arrayBuffer();
        if (!health.ok) throw new Error(`InfluxDB's health is ${health.status}`);
        await setUp(url, token);
        await ensureOurs(url, token);
      },
    },
    lifetime,
  );
  return Object.assign(server, { url, org: ORG, token });
}

/** Starts an InfluxDB of the caller's own. */
export async function startInflux(options: InfluxOptions): Promise<NativeServer & InfluxAddress> {
  const server = await influxServer(options);
  await server.start();
  return server;
}

/**
 * Path of `influxd`, built from its Go module where the cache does not have it yet (some five minutes).
 *
 * @throws GridrootError `program-missing`: a tool of the build is not installed.
 */
export async function installInflux(): Promise<string> {
  const folder = await installOnce(
    "influxdb",
    VERSIONS.influxdb,
    "built from its Go module, 5 to 7 minutes",
    buildInflux,
  );
  return join(folder, "influxd");
}

async function buildInflux(folder: string): Promise<void> {
  const go = findProgram(GO);
  findProgram(CARGO);
  findProgram(C_COMPILER);
  // Flux, the query language, is written in Rust; this stands in for pkg-config and has cargo build it.
  const pkgConfig = join(folder, "pkg-config");
  const env = {
    ...process.env,
    GOFLAGS: "-mod=readonly",
    CGO_ENABLED: "1",
    PKG_CONFIG: pkgConfig,
    RUSTC_WRAPPER: join(MODULE, "rustc-wrapper.sh"),
    ...(await rustToolchain()),
  };
  await runToEnd(go, ["build", "-o", pkgConfig, "github.com/influxdata/pkg-config"], { cwd: MODULE, env });
  await runToEnd(
    go,
    [
      ...["build", "-tags", "sqlite_foreign_keys,sqlite_json"],
      ...["-ldflags", `-s -w -X main.version=v${VERSIONS.influxdb}`],
      ...["-o", join(folder, "influxd"), "github.com/influxdata/influxdb/v2/cmd/influxd"],
    ],
    { cwd: MODULE, env },
  );
}

/** Flux pins an old toolchain, which rustup would download or refuse: the active one is named instead. */
async function rustToolchain(): Promise<{ RUSTUP_TOOLCHAIN?: string }> {
  let rustup: string;
  try {
    rustup = findProgram(RUSTUP);
  } catch {
    // Cargo of a distribution's package has no toolchains to choose from.
    return {};
  }
  const active = await runToEnd(rustup, ["show", "active-toolchain"], { cwd: "/" });
  const name = active.split(/\s/)[0];
  return name === undefined || name === "" ? {} : { RUSTUP_TOOLCHAIN: name };
}

/** Rejects where the token is not the server's: then another one listens there. */
async function ensureOurs(url: string, token: string): Promise<void> {
  const response = await fetch(`${url}/api/v2/orgs?limit=1`, {
    headers: { authorization: `Token ${token}` },
    signal: AbortSignal.timeout(5_000),
  });
  await response.arrayBuffer();
  if (!response.ok) throw new Error(`InfluxDB answers ${response.status} to its own token`);
}

/** Sets up an empty server; one that is set up has the token already, since it is written before its first start. */
async function setUp(url: string, token: string): Promise<void> {
  const asked = await fetch(`${url}/api/v2/setup`, { signal: AbortSignal.timeout(5_000) });
  const { allowed } = (await asked.json()) as { allowed: boolean };
  if (!allowed) return;
  const response = await fetch(`${url}/api/v2/setup`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      username: "gridroot",
      // Nobody signs in by a password: the token does everything.
      password: randomBytes(24).toString("hex"),
      org: ORG,
      // The request needs a bucket; the program makes those that it uses.
      bucket: "unused",
      token,
    }),
    signal: AbortSignal.timeout(20_000),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`setup of InfluxDB: ${response.status} ${text}`);
}

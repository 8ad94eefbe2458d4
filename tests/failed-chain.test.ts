import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { freePort } from "../cli/ports.ts";
import { chainProvider } from "../contracts/client.ts";

const MAIN = new URL("../main.ts", import.meta.url).pathname;
const LARGEST_FILE_KIB = 4;

test(
  "the role of a chain that cannot write its journal ends with an error, so that it is started anew",
  { timeout: 20_000 },
  async (t) => {
    const folder = await mkdtemp(join(tmpdir(), "gridroot-test-failed-chain-"));
    t.after(() => rm(folder, { recursive: true, force: true }));
    const port = await freePort();
    const script = `ulimit -f ${LARGEST_FILE_KIB}; exec "$0" "$@"`;
    const args = [script, process.execPath, MAIN, "start", "--roles", "chain"];
    const { PATH = "", HOME = "" } = process.env;
    const environment = { GRIDROOT_DATA_DIR: folder, GRIDROOT_CHAIN_PORT: String(port) };
    const child = spawn("bash", ["-c", ...args], {
      env: { PATH, HOME, ...environment },
      stdio: ["ignore", "ignore", "pipe"],
    });
    const ended = once(child, "close");
    t.after(() => child.kill("SIGKILL"));
    const up = Promise.withResolvers<void>();
    let lastLine = "";
    createInterface({ input: child.stderr }).on("line", (line) => {
      lastLine = line;
      if (line.includes("roles are up")) up.resolve();
    });
    await up.promise;

    const provider = chainProvider(`http://127.0.0.1:${port}`, 31_337);
    t.after(() => provider.destroy());
    await assert.rejects(provider.send("hardhat_mine", ["0x64"]), /the chain's journal cannot be written/);
    assert.deepEqual(await ended, [1, null]);
    assert.equal(lastLine, "gridroot: the chain's journal cannot be written");
  },
);

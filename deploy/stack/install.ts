import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, rename, rm } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { GridrootError } from "../../service/errors.ts";
import { FLOCK, findProgram } from "./programs.ts";

/** Reports what takes long, a line at a time. */
export type Say = (line: string) => void;

/** Says it on the standard error, which leaves a command's output to its results. */
export const sayOnStderr: Say = (line) => {
  process.stderr.write(`${line}\n`);
};

/** Folder of what is installed once for all checkouts. */
export function cacheFolder(): string {
  return join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "gridroot");
}

/**
 * Folder `<cache>/<name>-<version>`, made by `build` where it is not there yet. It appears whole or not at all, and is
 * made once where two processes want it.
 *
 * @param build Fills the empty folder that it is given, to be moved to its place when it returns.
 */
export async function installOnce(
  name: string,
  version: string,
  how: string,
  build: (folder: string) => Promise<void>,
  say: Say = sayOnStderr,
): Promise<string> {
  const target = join(cacheFolder(), `${name}-${version}`);
  if (existsSync(target)) return target;
  await mkdir(cacheFolder(), { recursive: true });
  await withLock(`${target}.lock`, async () => {
    if (existsSync(target)) return;
    const startMs = performance.now();
    say(`installing ${name} ${version} into ${target}: ${how}`);
    const unfinished = `${target}.unfinished`;
    await rm(unfinished, { recursive: true, force: true });
    await mkdir(unfinished);
    await build(unfinished);
    await rename(unfinished, target);
    say(`installed ${name} ${version} in ${Math.round((performance.now() - startMs) / 1000)} s`);
  });
  return target;
}

/**
 * Runs `body` while no other process is within the same lock. The kernel gives the lock back however this process ends:
 * it is held by a child that ends with its standard input.
 */
export async function withLock<T>(file: string, body: () => Promise<T>): Promise<T> {
  const holder = spawn(
    findProgram(FLOCK),
    [file, "/bin/sh", "-c", "echo held; while read -r _; do :; done"],
    {
      stdio: ["pipe", "pipe", "inherit"],
    },
  );
  const ended = once(holder, "exit");
  const isHeld = await Promise.race([once(holder.stdout, "data").then(() => true), ended.then(() => false)]);
  if (!isHeld) throw new GridrootError("lock-failed", `no lock on ${file}`);
  try {
    return await body();
  } finally {
    holder.stdin.end();
    await ended;
  }
}

/**
 * Runs a program to its end.
 *
 * @throws GridrootError `install-failed`, with the end of what it printed.
 */
export async function runToEnd(
  command: string,
  args: readonly string[],
  options: {
    readonly cwd?: string;
    readonly env?: NodeJS.ProcessEnv;
    readonly uid?: number;
    readonly gid?: number;
  } = {},
): Promise<string> {
  const child = spawn(command, args, { ...options, stdio: ["ignore", "pipe", "pipe"] });
  const printed: string[] = [];
  const keep = (chunk: Buffer): void => {
    printed.push(chunk.toString("utf8"));
    // Only the end is of interest where it fails; builds print much.
    if (printed.length > 2_000) printed.splice(0, 1_000);
  };
  child.stdout.on("data", keep);
  child.stderr.on("data", keep);
  const [code] = (await once(child, "close")) as [number | null];
  const text = printed.join("");
  if (code === 0) return text;
  const end = text.trim().split("\n").slice(-15).join("\n");
  throw new GridrootError(
    "install-failed",
    `${command} ${args[0] ?? ""} failed (${code ?? "killed"}): ${end}`,
  );
}

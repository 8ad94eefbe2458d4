import { accessSync, constants, readdirSync } from "node:fs";
import { delimiter, join } from "node:path";
import { GridrootError } from "../../service/errors.ts";

/** A program that the stack runs and does not bring. */
export interface Program {
  readonly command: string;
  /** The exact command, or the shortest instruction, that installs it. */
  readonly install: string;
  /** Folders to look in after those of the PATH. */
  readonly folders?: readonly string[];
}

function debian(packageName: string): string {
  return `as root, deploy/stack/install-debian.sh or apt-get install -y ${packageName}`;
}

/** Debian keeps each major version's programs in a folder of its own, and out of the PATH. */
function postgresFolders(): string[] {
  const home = "/usr/lib/postgresql";
  try {
    return readdirSync(home)
      .sort((a, b) => Number(b) - Number(a))
      .map((version) => join(home, version, "bin"));
  } catch {
    return [];
  }
}

/** One of PostgreSQL's own programs; `postgres`, `initdb`, `pg_basebackup`. */
export function postgresProgram(command: string): Program {
  return { command, install: debian("postgresql"), folders: postgresFolders() };
}

export const REDIS_SERVER: Program = { command: "redis-server", install: debian("redis-server") };

export const PGBOUNCER: Program = {
  command: "pgbouncer",
  install: debian("pgbouncer"),
  // Where Debian puts it; the PATH of users other than root often lacks it.
  folders: ["/usr/sbin"],
};

export const JAVA: Program = {
  command: "java",
  install: "as root, apt-get install -y openjdk-17-jre-headless (Java 17 or later)",
};

export const MAVEN: Program = { command: "mvn", install: "as root, apt-get install -y maven" };

export const GO: Program = { command: "go", install: "Go 1.24 or later from https://go.dev/dl" };

export const CARGO: Program = { command: "cargo", install: "Rust's stable toolchain from https://rustup.rs" };

export const RUSTUP: Program = { command: "rustup", install: "https://rustup.rs" };

export const FLOCK: Program = {
  command: "flock",
  install: "as root, apt-get install -y util-linux",
  folders: ["/usr/bin"],
};

export const C_COMPILER: Program = { command: "gcc", install: "as root, apt-get install -y gcc libc6-dev" };

/**
 * Absolute path of a program.
 *
 * @param path Folders separated by colons, searched first; the environment's PATH.
 * @throws GridrootError `program-missing`, whose message says how to install it.
 */
export function findProgram(program: Program, path: string = process.env["PATH"] ?? ""): string {
  const folders = [...path.split(delimiter).filter((folder) => folder !== ""), ...(program.folders ?? [])];
  const found = folders.map((folder) => join(folder, program.command)).find(isExecutable);
  if (found === undefined) {
    throw new GridrootError(
      "program-missing",
      `${program.command} is not installed; install it: ${program.install}`,
    );
  }
  return found;
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

import { readFile, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { GridrootError } from "./errors.ts";

/** Where folders of servers lie that the server's user could not reach at their own place. */
export const SERVER_HOME = "/var/lib/gridroot";

/** The user that a server runs as. */
export interface ServerUser {
  readonly uid: number;
  readonly gid: number;
}

/**
 * The user for servers that refuse to run as root: `postgres`, or `nobody` where that is missing. Undefined where this
 * process is not root: then servers run as its own user.
 *
 * @throws GridrootError `postgres-user-missing`: neither user exists.
 */
export async function serverUserUnderRoot(): Promise<ServerUser | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const users = (await readFile("/etc/passwd", "utf8")).split("\n").map((line) => line.split(":"));
  const user = ["postgres", "nobody"]
    .map((name) => users.find((fields) => fields[0] === name))
    .find((fields) => fields !== undefined);
  if (user === undefined) {
    throw new GridrootError(
      "postgres-user-missing",
      "PostgreSQL does not run as root: add a user `postgres`",
    );
  }
  return { uid: Number(user[2]), gid: Number(user[3]) };
}

/** Whether any user may pass through each folder and its parents. Folders that are not there yet count as open. */
export async function everyoneMayEnter(...folders: readonly string[]): Promise<boolean> {
  for (const folder of folders) {
    for (let path = folder; ; path = dirname(path)) {
      const mode = await stat(path).then(
        (found) => found.mode,
        () => 0o005,
      );
      if ((mode & 0o001) === 0) return false;
      if (path === dirname(path)) break;
    }
  }
  return true;
}

/** The place below `SERVER_HOME` that stands for an absolute folder which the server's user cannot reach. */
export function reachablePlaceOf(folder: string): string {
  return join(SERVER_HOME, "data", folder.replaceAll("/", "-").slice(1));
}

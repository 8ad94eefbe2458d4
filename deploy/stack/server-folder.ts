import { chmod, chown, mkdir, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, resolve } from "node:path";
import { everyoneMayEnter, reachablePlaceOf } from "../../service/server-user.ts";
import type { ServerUser } from "../../service/server-user.ts";

/**
 * The folder for what a server of another user reads and writes, made where it is missing: `wanted` itself, or a place
 * below /var/lib/gridroot where that user cannot pass through its parents (a project below /root).
 *
 * A temporary folder of this user is opened for passing through instead, so that whoever removes it removes all.
 */
export async function folderOfUser(wanted: string, user: ServerUser | undefined): Promise<string> {
  let folder = resolve(wanted);
  if (user !== undefined) {
    await openTemporaryParents(dirname(folder));
    if (!(await everyoneMayEnter(dirname(folder)))) folder = reachablePlaceOf(folder);
  }
  await mkdir(folder, { recursive: true, mode: 0o700 });
  if (user !== undefined) await chown(folder, user.uid, user.gid);
  return folder;
}

async function openTemporaryParents(folder: string): Promise<void> {
  const temporary = resolve(tmpdir());
  await mkdir(folder, { recursive: true });
  for (let path = folder; path.startsWith(`${temporary}/`); path = dirname(path)) {
    const { mode } = await stat(path);
    if ((mode & 0o001) === 0) await chmod(path, (mode & 0o7777) | 0o001);
  }
}

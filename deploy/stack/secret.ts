import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";

/** A random secret that a folder keeps from its first use on, readable by its owner alone. */
export async function secretIn(folder: string, name: string): Promise<string> {
  const file = join(folder, name);
  if (!existsSync(file)) {
    await mkdir(folder, { recursive: true });
    const unfinished = `${file}.unfinished`;
    await writeFile(unfinished, `${randomBytes(32).toString("hex")}\n`, { mode: 0o600 });
    await rename(unfinished, file);
  }
  return (await readFile(file, "utf8")).trim();
}

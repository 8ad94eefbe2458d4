import { randomBytes } from "node:crypto";
import { mkdir, open, readFile, rename } from "node:fs/promises";
import { dirname } from "node:path";
import { GridrootError } from "./errors.ts";
import type { Hex } from "../domain/settlement/settlement.ts";

/** Private keys of the embedded profile by their owner's name. */
export type Keys = Readonly<Record<string, Hex>>;

/**
 * Reads a key file and adds what is missing, from the system's random source. For the embedded profile only: the file
 * is readable by its owner alone, and is durable before a key of it is used, because a key lost after a contract
 * knows it could never attest again.
 */
export async function readOrCreateKeys(file: string, owners: readonly string[]): Promise<Keys> {
  const known = await readKeys(file);
  const missing = owners.filter((owner) => known[owner] === undefined);
  if (missing.length === 0) return known;
  const keys = { ...known };
  for (const owner of missing) keys[owner] = `0x${randomBytes(32).toString("hex")}`;
  await writeDurably(file, `${JSON.stringify(keys, null, 2)}\n`);
  return keys;
}

async function readKeys(file: string): Promise<Keys> {
  let content: string;
  try {
    content = await readFile(file, "utf8");
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return {};
    throw cause;
  }
  try {
    return JSON.parse(content) as Keys;
  } catch (cause) {
    throw new GridrootError("keys-unreadable", `${file} is no JSON`, { cause });
  }
}

async function writeDurably(file: string, content: string): Promise<void> {
  await mkdir(dirname(file), { recursive: true });
  const temporary = `${file}.new`;
  const handle = await open(temporary, "w", 0o600);
  try {
    await handle.writeFile(content);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(temporary, file);
}

import { badInput } from "./problem.ts";

/** The unix seconds that an `InstantParam` means, rounded down. Throws 400 naming `field`. */
export function parseInstant(text: string, field: string): number {
  if (/^[0-9]+$/.test(text)) return Number(text);
  const ms = Date.parse(text);
  if (Number.isNaN(ms) || ms < 0) throw badInput(field, "is no instant");
  return Math.floor(ms / 1000);
}

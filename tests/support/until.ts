import assert from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";

/** Waits until a condition holds, looking every few milliseconds; fails after `boundMs` with what it waited for. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  boundMs = 20_000,
): Promise<void> {
  const deadline = performance.now() + boundMs;
  while (!(await condition())) {
    if (performance.now() > deadline) assert.fail(`waited ${boundMs} ms in vain until ${what}`);
    await delay(5);
  }
}

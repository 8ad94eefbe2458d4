import { sayOnStderr } from "../../deploy/stack/install.ts";
import { bringUp, settingsOf, stackOptionsFrom, takeDown } from "../../deploy/stack/stack.ts";

const options = stackOptionsFrom(process.env);
let startedHere: readonly string[] = [];

/**
 * Called by `node --test --test-global-setup`: brings the stack up where it is not, and hands its settings to the test
 * files under the prefix TEST_ in place of GRIDROOT_. A server that does not come up fails the whole run.
 */
export async function globalSetup(): Promise<void> {
  startedHere = await bringUp(options, sayOnStderr);
  for (const [name, value] of Object.entries(await settingsOf(options))) {
    process.env[name.replace(/^GRIDROOT_/, "TEST_")] = value;
  }
}

/** Stops what this run started; a stack that was up before stays up. */
export async function globalTeardown(): Promise<void> {
  await takeDown(options, sayOnStderr, startedHere);
}

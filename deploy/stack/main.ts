// `npm run stack:up`, `stack:down`, `stack:status`: the real servers of the distributed profile, without containers.
import { GridrootError } from "../../service/errors.ts";
import { bringUp, stackOptionsFrom, statusOf, takeDown } from "./stack.ts";
import type { StackOptions } from "./stack.ts";

function say(line: string): void {
  console.log(line);
}

async function printStatus(options: StackOptions): Promise<void> {
  for (const { name, version, address, state, pid } of await statusOf(options)) {
    const columns = [name.padEnd(10), version.padEnd(8), address.padEnd(17), state];
    say([...columns, ...(pid === undefined ? [] : [`pid ${pid}`])].join("  "));
  }
}

const commands: Readonly<Record<string, (options: StackOptions) => Promise<unknown>>> = {
  up: (options) => bringUp(options, say),
  down: (options) => takeDown(options, say),
  status: printStatus,
};

const command = commands[process.argv[2] ?? ""];
if (command === undefined) {
  console.error("usage: node deploy/stack/main.ts up|down|status");
  process.exitCode = 2;
} else {
  try {
    await command(stackOptionsFrom(process.env));
  } catch (error) {
    // What the user can mend is said in a line; anything else is a fault of the stack's own, with its trace.
    console.error(error instanceof GridrootError ? error.message : error);
    process.exitCode = 1;
  }
}

import assert from "node:assert/strict";
import { connectAsync } from "mqtt";
import { freePort } from "../../cli/ports.ts";
import { Program, runProgram } from "./program.ts";
import { until } from "./until.ts";

type Environment = Readonly<Record<string, string>>;

/** Roles that run as processes of their own, each watched by its probe, as in a deployment. */
export class Deployment {
  readonly #command: readonly string[] | undefined;
  readonly #processes = new Map<string, { program: Program; probe: string }>();

  /** `command` is the program where it is not the sources. */
  constructor(command?: readonly string[]) {
    this.#command = command;
  }

  /** Starts a process and waits until its roles are up. */
  async start(name: string, args: readonly string[], environment: Environment): Promise<void> {
    const port = await freePort();
    const program = new Program(
      args,
      { ...environment, GRIDROOT_PROBE_HOST: "127.0.0.1", GRIDROOT_PROBE_PORT: String(port) },
      this.#command,
    );
    const probe = `http://127.0.0.1:${port}`;
    this.#processes.set(name, { program, probe });
    await until(
      `${name} is up`,
      async () => {
        if (program.exitCode !== null) throw new Error([`${name} ended`, ...program.errors].join("\n"));
        return fetch(`${probe}/ready`).then(
          ({ ok }) => ok,
          () => false,
        );
      },
      60_000,
    ).catch((cause: unknown) => {
      throw new Error([`${name} is not up`, ...program.errors.slice(-20)].join("\n"), { cause });
    });
  }

  /** The metrics that a process tells. */
  async metrics(name: string): Promise<string> {
    const response = await fetch(`${this.#process(name).probe}/metrics`);
    return response.text();
  }

  /** What a process has logged. */
  log(name: string): readonly string[] {
    return this.#process(name).program.errors;
  }

  /** Runs a command to its end, which must be a good one. */
  async run(args: readonly string[], environment: Environment): Promise<readonly string[]> {
    const { code, lines, errors } = await runProgram(args, environment, this.#command);
    assert.equal(code, 0, `gridroot ${args.join(" ")}: ${errors.join("\n")}`);
    return lines;
  }

  /** Stops a process in order. */
  async stop(name: string): Promise<void> {
    const { program } = this.#process(name);
    this.#processes.delete(name);
    program.kill("SIGTERM");
    assert.equal(await program.end(), 0, `${name} stops in order: ${program.errors.slice(-5).join("\n")}`);
  }

  /** Stops everything, whoever was started last first. */
  async stopAll(): Promise<void> {
    for (const name of [...this.#processes.keys()].toReversed()) {
      const process_ = this.#process(name);
      this.#processes.delete(name);
      process_.program.kill("SIGTERM");
      await process_.program.end();
    }
  }

  #process(name: string): { program: Program; probe: string } {
    const process_ = this.#processes.get(name);
    assert.ok(process_ !== undefined, `${name} runs`);
    return process_;
  }
}

/** What `meters add` prints. */
export interface MeterAccess {
  readonly clientId: string;
  readonly username: string;
  readonly password: string;
  readonly topic: string;
}

/** Publishes readings as a meter does, and waits for each acknowledgement. */
export async function publishReadings(
  port: number,
  { clientId, username, password, topic }: MeterAccess,
  readings: readonly object[],
): Promise<void> {
  const client = await connectAsync(`mqtt://127.0.0.1:${port}`, {
    ...{ clientId, username, password },
    protocolVersion: 4,
  });
  try {
    for (const reading of readings) await client.publishAsync(topic, JSON.stringify(reading), { qos: 1 });
  } finally {
    await client.endAsync();
  }
}

import type { ServerUser } from "../../service/server-user.ts";

/** How a server is launched; made anew at each start. */
export interface Launch {
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** What distinguishes one kind of server from another. */
export interface ServerDefinition {
  readonly name: string;
  /** Folder of its own: data, `server.log`, and `process.json` while it runs. */
  readonly dataDir: string;
  readonly port: number;
  /** Runs as this user where set. */
  readonly user?: ServerUser | undefined;
  /** Asks the server to end in order. */
  readonly stopSignal: "SIGTERM" | "SIGINT";
  readonly startWithinMs: number;
  readonly stopWithinMs: number;
  /** Installs and initialises what is missing. Idempotent: it may have been killed at any moment before. */
  prepare(): Promise<Launch>;
  /** One attempt to get an answer; rejects while there is none. */
  answer(): Promise<void>;
}

import { createServer } from "node:net";
import { GridrootError } from "../service/errors.ts";

/** A loopback port that is free now. */
export function freePort(): Promise<number> {
  return withServer(0, "127.0.0.1");
}

/** Rejects with `port-taken`, naming the setting, where somebody listens already. */
export async function requireFree(port: number, host: string, setting: string): Promise<void> {
  try {
    await withServer(port, host);
  } catch (cause) {
    throw new GridrootError("port-taken", `${host}:${port} is taken; set ${setting} to another port`, {
      cause,
    });
  }
}

function withServer(port: number, host: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(port, host, () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address !== null ? address.port : port));
    });
  });
}

import { randomInt } from "node:crypto";
import { createServer } from "node:net";
import { GridrootError } from "../../service/errors.ts";

/**
 * Below the ports that systems give to outgoing connections (Linux: from 32768). A port from among those could be taken
 * by some connection while its server is down, or a client's attempts to reach the server could meet themselves. And
 * below those of the stack.
 */
const FREE_FROM = 10_000;
const FREE_BELOW = 20_000;

/** A free port of the loopback interface, drawn at random. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(FREE_FROM, FREE_BELOW);
    if (await isFree(port)) return port;
  }
}

/**
 * @param name Who wants the port.
 * @throws GridrootError `port-in-use`: another program listens on it.
 */
export async function ensureFree(port: number, name: string): Promise<void> {
  if (await isFree(port)) return;
  throw new GridrootError(
    "port-in-use",
    `port ${port} of ${name} is taken by another program: stop that, or choose another port (deploy/stack/README.md)`,
  );
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => {
      resolve(false);
    });
    server.listen(port, "127.0.0.1", () => {
      server.close(() => {
        resolve(true);
      });
    });
  });
}

import { subscribe, unsubscribe } from "node:diagnostics_channel";
import type { Socket } from "node:net";

/** Node's channel for every TCP connection that this process begins. */
const CHANNEL = "net.client.socket";

/**
 * Cuts this process's own connections to some ports, as a network does that drops them: for servers that tell their
 * clients which address to use, so that no proxy can stand before them.
 */
export class ConnectionCutter {
  readonly #ports: ReadonlySet<number>;
  readonly #sockets = new Set<Socket>();
  readonly #onSocket = (message: unknown): void => {
    const { socket } = message as { socket: Socket };
    this.#sockets.add(socket);
    socket.on("close", () => this.#sockets.delete(socket));
  };

  /** Watches from now on. */
  constructor(ports: readonly number[]) {
    this.#ports = new Set(ports);
    subscribe(CHANNEL, this.#onSocket);
  }

  /** Resets the connections there are; returns how many. New ones are let through. */
  cut(): number {
    const cut = [...this.#sockets].filter(({ remotePort }) => this.#ports.has(remotePort ?? 0));
    for (const socket of cut) {
      socket.destroy(Object.assign(new Error("read ECONNRESET"), { code: "ECONNRESET" }));
    }
    return cut.length;
  }

  close(): void {
    unsubscribe(CHANNEL, this.#onSocket);
  }
}

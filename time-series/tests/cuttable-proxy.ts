import { connect, createServer, type Server, type Socket } from "node:net";

/** A TCP proxy before a server, for tests that take the server away and bring it back. */
export class CuttableProxy {
  readonly #target: { host: string; port: number };
  readonly #sockets = new Set<Socket>();
  #server: Server | undefined;
  #port = 0;
  #cut = false;

  constructor(target: { host: string; port: number }) {
    this.#target = target;
  }

  /** Listens on a free loopback port, which stays the same over cuts. */
  async listen(): Promise<number> {
    const server = createServer((socket) => this.#accept(socket));
    await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
    this.#server = server;
    const address = server.address();
    this.#port = typeof address === "object" && address !== null ? address.port : 0;
    return this.#port;
  }

  /** Drops every connection and refuses new ones. */
  cut(): void {
    this.#cut = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  restore(): void {
    this.#cut = false;
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise((done) => this.#server?.close(done));
  }

  #accept(socket: Socket): void {
    if (this.#cut) {
      socket.destroy();
      return;
    }
    const upstream = connect(this.#target);
    for (const [one, other] of [
      [socket, upstream],
      [upstream, socket],
    ] as const) {
      this.#sockets.add(one);
      one.on("error", () => {});
      one.on("close", () => {
        this.#sockets.delete(one);
        other.destroy();
      });
      one.pipe(other);
    }
  }
}

import { createServer, request, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { gunzipSync } from "node:zlib";

/** A request as it came, its body unpacked. */
export interface SeenRequest {
  readonly method: string;
  /** Path without the query. */
  readonly path: string;
  /** The parameter `bucket` of the query, or "". */
  readonly bucket: string;
  readonly body: string;
}

/**
 * What becomes of a request: it is passed on; answered by the proxy; never answered; its connection is cut before or
 * after the server has carried it out; or the server's answer breaks off after some bytes.
 */
export type Treatment =
  | "pass"
  | { readonly status: number; readonly headers?: Record<string, string>; readonly body: string }
  | "hang"
  | "cut"
  | "cut-after"
  | { readonly breakOffAfterBytes: number };

/** An HTTP proxy before a server, for tests that answer in its place or spoil its answers. */
export class AnsweringProxy {
  readonly #target: URL;
  readonly #server: Server;
  /** Decides on each request; may wait, and may do other things meanwhile. */
  treat: (seen: SeenRequest) => Treatment | Promise<Treatment> = () => "pass";

  constructor(target: string) {
    this.#target = new URL(target);
    this.#server = createServer((incoming, answer) => {
      incoming.on("error", () => {});
      answer.on("error", () => {});
      void this.#handle(incoming, answer).catch(() => answer.destroy());
    });
  }

  /** Listens on a free loopback port and resolves with the proxy's own URL. */
  async listen(): Promise<string> {
    await new Promise<void>((done) => this.#server.listen(0, "127.0.0.1", done));
    const address = this.#server.address();
    return `http://127.0.0.1:${typeof address === "object" && address !== null ? address.port : 0}`;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((done) => this.#server.close(done));
  }

  async #handle(incoming: IncomingMessage, answer: ServerResponse): Promise<void> {
    const body = await bytesOf(incoming);
    const url = new URL(incoming.url ?? "/", this.#target);
    const isPacked = incoming.headers["content-encoding"] === "gzip";
    const treatment = await this.treat({
      method: incoming.method ?? "",
      path: url.pathname,
      bucket: url.searchParams.get("bucket") ?? "",
      body: (isPacked ? gunzipSync(body) : body).toString("utf8"),
    });
    if (treatment === "hang") return;
    if (treatment === "cut") return void answer.destroy();
    if (treatment !== "pass" && treatment !== "cut-after" && "status" in treatment)
      return void answer.writeHead(treatment.status, treatment.headers).end(treatment.body);
    const passed = request(url, { method: incoming.method ?? "GET", headers: incoming.headers });
    const replied = new Promise<IncomingMessage>((resolve, reject) => {
      passed.on("response", resolve).on("error", reject);
    });
    passed.end(body);
    const reply = await replied;
    const bytes = await bytesOf(reply);
    if (treatment === "cut-after") return void answer.destroy();
    answer.writeHead(reply.statusCode ?? 502, reply.headers);
    if (treatment === "pass") return void answer.end(bytes);
    answer.write(bytes.subarray(0, treatment.breakOffAfterBytes), () => answer.destroy());
  }
}

async function bytesOf(message: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of message as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

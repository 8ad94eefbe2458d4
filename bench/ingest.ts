// Ingest on PostgreSQL, one worker: readings acknowledged a second and the time from a publish to its PUBACK, each
// acknowledged only when durable (fsync on). Worker and server are processes of their own; this one is the load.
import { fork } from "node:child_process";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import mqtt from "mqtt-packet";
import { addMeters, openBackend, rdTopic, reading, SECRET } from "../ingest/tests/ingest-under-test.ts";
import { connectPacket, publishPacket } from "../ingest/tests/raw-client.ts";
import { startPostgres } from "../tests/support/postgres.ts";
import { until } from "../tests/support/until.ts";

const CONNECTIONS = 1000;
const WINDOWS = [1, 10];
const WARM_UP_MS = 2000;
const MEASURE_MS = 8000;

/** One connection that keeps `window` publishes open. Parses nothing but the four bytes of a PUBACK. */
class Publisher {
  readonly #socket: Socket;
  readonly #meterId: string;
  readonly #sentMs = new Float64Array(65_536);
  readonly #onAcknowledged: (tookMs: number) => void;
  #rest: Buffer = Buffer.alloc(0);
  #next = 1;
  #isStopped = false;
  #isConnected = false;

  constructor(port: number, meterId: string, onAcknowledged: (tookMs: number) => void) {
    this.#meterId = meterId;
    this.#onAcknowledged = onAcknowledged;
    this.#socket = connect({ port, host: "127.0.0.1", noDelay: true });
    this.#socket.on("data", (bytes) => this.#receive(bytes));
    this.#socket.write(mqtt.generate(connectPacket(meterId, SECRET)));
  }

  get isConnected(): boolean {
    return this.#isConnected;
  }

  open(window: number): void {
    this.#socket.write(Buffer.concat(Array.from({ length: window }, () => this.#publish())));
  }

  stop(): void {
    this.#isStopped = true;
    this.#socket.destroy();
  }

  #receive(chunk: Buffer): void {
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    const whole = bytes.length - (bytes.length % 4);
    this.#rest = bytes.subarray(whole);
    const answers: Buffer[] = [];
    for (let at = 0; at < whole; at += 4) {
      if (bytes[at] === 0x20) this.#isConnected = bytes[at + 3] === 0;
      else answers.push(this.#acknowledged(bytes.readUInt16BE(at + 2)));
    }
    if (answers.length > 0 && !this.#isStopped) this.#socket.write(Buffer.concat(answers));
  }

  #acknowledged(identifier: number): Buffer {
    this.#onAcknowledged(performance.now() - this.#sentMs[identifier]!);
    return this.#publish();
  }

  #publish(): Buffer {
    const identifier = this.#next;
    this.#next = (identifier % 65_535) + 1;
    this.#sentMs[identifier] = performance.now();
    const payload = reading(identifier % 10_000, { powerW: -812, voltageDv: 2301, status: 0 });
    return mqtt.generate(publishPacket(rdTopic(this.#meterId), payload, identifier));
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

function quantile(sorted: readonly number[], q: number): string {
  return (sorted[Math.floor(q * (sorted.length - 1))] ?? 0).toFixed(1);
}

async function measure(port: number, meterIds: readonly string[], window: number): Promise<void> {
  let tookMs: number[] = [];
  const publishers = meterIds.map((meterId) => new Publisher(port, meterId, (ms) => tookMs.push(ms)));
  await until("all are connected", () => publishers.every(({ isConnected }) => isConnected), 60_000);
  for (const publisher of publishers) publisher.open(window);
  await new Promise((done) => setTimeout(done, WARM_UP_MS));
  tookMs = [];
  const beganMs = performance.now();
  await new Promise((done) => setTimeout(done, MEASURE_MS));
  const perSecond = Math.round((tookMs.length / (performance.now() - beganMs)) * 1000);
  const sorted = tookMs.toSorted((a, b) => a - b);
  for (const publisher of publishers) publisher.stop();
  process.stdout.write(
    `${CONNECTIONS} connections, window ${window}: ${perSecond} readings acknowledged a second, ` +
      `p50 ${quantile(sorted, 0.5)} ms, p99 ${quantile(sorted, 0.99)} ms\n`,
  );
}

const server = await startPostgres([]);
const backend = await openBackend(server.url);
const meterIds = Array.from({ length: CONNECTIONS }, (_, index) => `bench-${index}`);
await addMeters(backend.pool, ...meterIds);
const port = await freePort();
const worker = fork(
  new URL("../ingest/tests/worker-process.ts", import.meta.url),
  [server.url, String(port), ""],
  {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  },
);
try {
  await once(worker, "message");
  for (const window of WINDOWS) await measure(port, meterIds, window);
} finally {
  worker.kill("SIGKILL");
  await backend.close();
  await server.stop();
}

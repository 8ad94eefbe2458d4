import { connect, isIP, type Socket } from "node:net";
import { createRequire } from "node:module";
import { connect as connectTls } from "node:tls";
import { type ISocketFactory, Kafka, type KafkaConfig } from "kafkajs";
import { GridrootError } from "../../service/errors.ts";

/** Idle time after which the operating system probes whether a broker is still there, ms. */
const KEEP_ALIVE_MS = 10_000;

/**
 * A kafkajs client whose connections can be cut: kafkajs gives up a request only after its timeout, goes on
 * connecting on its own meanwhile, and may then send what nobody waits for any more.
 */
export class KafkaClient {
  readonly kafka: Kafka;
  readonly #sockets = new Set<Socket>();
  #cut = false;

  constructor(config: KafkaConfig) {
    stopIdleTimers();
    this.kafka = new Kafka({ ...config, socketFactory: (target) => this.#connect(target) });
  }

  /** Ends every connection at once; what is pending rejects, and nothing is sent from here on. Idempotent. */
  cut(): void {
    this.#cut = true;
    for (const socket of this.#sockets) socket.destroy(new Error("the client was cut"));
  }

  #connect({ host, port, ssl, onConnect }: Parameters<ISocketFactory>[0]): Socket {
    if (this.#cut) throw new GridrootError("client-cut", "the Kafka client was cut");
    // The declared type has `ssl` always; without TLS it is null.
    const tls = ssl as typeof ssl | null;
    const socket =
      tls === null
        ? connect({ host, port }, onConnect)
        : connectTls({ host, port, ...(isIP(host) === 0 ? { servername: host } : {}), ...tls }, onConnect);
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    socket.setNoDelay(true);
    this.#sockets.add(socket);
    socket.on("close", () => this.#sockets.delete(socket));
    return socket;
  }
}

/** The part of kafkajs's queue of requests of one connection that is corrected below. */
interface RequestQueue {
  readonly pending: readonly unknown[];
  scheduleCheckPendingRequests(): void;
}

let idleTimersStopped = false;

/**
 * After every answer kafkajs 2.2.4 arms a timer to look after requests that wait, even if none does, and that timer
 * arms itself again: each connection wakes the process a thousand times a second for ever, and because the delay is
 * "not throttled: -1 ms", Node warns of a negative timeout (kafkajs issue 1751). No option avoids it, so the method
 * is called only where a request waits; pushing one that has to wait calls it too.
 */
function stopIdleTimers(): void {
  if (idleTimersStopped) return;
  const load = createRequire(import.meta.url);
  const { prototype } = load("kafkajs/src/network/requestQueue/index.js") as { prototype: RequestQueue };
  // eslint-disable-next-line typescript/unbound-method
  const schedule = prototype.scheduleCheckPendingRequests;
  prototype.scheduleCheckPendingRequests = function (this: RequestQueue) {
    if (this.pending.length > 0) schedule.call(this);
  };
  idleTimersStopped = true;
}

import { setTimeout as pause } from "node:timers/promises";
import mqtt, { type MqttClient } from "mqtt";
import { GridrootError } from "../service/errors.ts";
import { keyOf, uniform } from "./random.ts";

/** How a meter reaches the broker. */
export interface MeterClientOptions {
  readonly host: string;
  readonly port: number;
  /** User name and client id. */
  readonly meterId: string;
  readonly secret: string;
  /** Publishes that wait for their PUBACK at a time; the rest wait in the meter. Default 16. */
  readonly maxInFlight?: number;
  /** How long CONNACK 4 and 5 are met with another try, ms: the registry may be on its way. Default 5,000. */
  readonly refusalPatienceMs?: number;
}

interface Pending {
  readonly topic: string;
  readonly payload: string | Buffer;
  readonly acknowledged: PromiseWithResolvers<void>;
}

const CONNECT_TIMEOUT_MS = 5000;
const KEEPALIVE_S = 60;
const FIRST_RETRY_MS = 100;
const LONGEST_RETRY_MS = 2000;
const DISCONNECT_PATIENCE_MS = 500;
/** CONNACK: bad user name or password, not authorized. */
const REFUSALS: readonly unknown[] = [4, 5];

/**
 * One meter's connection, MQTT 3.1.1 with clean sessions. It keeps what it was given until the PUBACK, connects
 * again when the connection closes, and then publishes in the first order what was not acknowledged. Each
 * connection is a client of its own, so that nothing of the last one, packet ids or hidden queues, survives it.
 */
export class MeterClient {
  readonly #options: MeterClientOptions;
  readonly #maxInFlight: number;
  readonly #pending: Pending[] = [];
  /** How many at the head of `#pending` went out on this connection. */
  #sent = 0;
  #client: MqttClient | undefined;
  #connected = Promise.withResolvers<void>();
  #attempt = 0;
  #refusedSinceMs: number | undefined;
  #retry: NodeJS.Timeout | undefined;
  #failure: GridrootError | undefined;

  constructor(options: MeterClientOptions) {
    this.#options = options;
    this.#maxInFlight = options.maxInFlight ?? 16;
    // Whoever publishes hears of a failure; nobody has to wait for the first connection.
    this.#connected.promise.catch(() => {});
  }

  /** Begins to connect. Resolves at the first CONNACK 0; rejects with `meter-refused` or `simulator-stopped`. */
  connect(): Promise<void> {
    if (this.#client === undefined && this.#retry === undefined && this.#failure === undefined) this.#open();
    return this.#connected.promise;
  }

  /**
   * Publishes with QoS 1 and resolves at the PUBACK, over as many connections as that takes. Calls keep their
   * order. Rejects with `meter-refused` where the broker does not know the meter, or `simulator-stopped`.
   */
  publish(topic: string, payload: string | Buffer): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    const acknowledged = Promise.withResolvers<void>();
    this.#pending.push({ topic, payload, acknowledged });
    this.#send();
    return acknowledged.promise;
  }

  /** Disconnects; what was not acknowledged is rejected with `simulator-stopped`. Safe to call again. */
  async stop(): Promise<void> {
    clearTimeout(this.#retry);
    const client = this.#client;
    this.#client = undefined;
    this.#fail(new GridrootError("simulator-stopped", "the simulated meter has stopped"));
    if (client === undefined) return;
    const patience = new AbortController();
    const orderly = client.connected && Object.keys(client.outgoing).length === 0;
    await Promise.race([
      client.endAsync(!orderly),
      pause(DISCONNECT_PATIENCE_MS, undefined, { signal: patience.signal }),
    ]);
    patience.abort();
    client.stream.destroy();
  }

  #open(): void {
    const { host, port, meterId, secret } = this.#options;
    this.#retry = undefined;
    const client = mqtt.connect({
      host,
      port,
      protocol: "mqtt",
      protocolVersion: 4,
      clean: true,
      clientId: meterId,
      username: meterId,
      password: secret,
      keepalive: KEEPALIVE_S,
      connectTimeout: CONNECT_TIMEOUT_MS,
      reconnectPeriod: 0,
      resubscribe: false,
    });
    this.#client = client;
    let refused = false;
    client.on("connect", () => {
      if (client === this.#client) this.#onConnect();
    });
    client.on("error", (error) => {
      refused ||= "code" in error && REFUSALS.includes(error.code);
      // The close that follows decides what to do.
      client.end(true);
    });
    client.on("close", () => {
      if (client === this.#client) this.#onClose(refused);
    });
  }

  #onConnect(): void {
    this.#attempt = 0;
    this.#refusedSinceMs = undefined;
    this.#sent = 0;
    this.#connected.resolve();
    this.#send();
  }

  #onClose(refused: boolean): void {
    this.#client = undefined;
    this.#sent = 0;
    if (refused && this.#isOutOfPatience()) {
      const { meterId } = this.#options;
      this.#fail(new GridrootError("meter-refused", `the broker refuses meter ${meterId}`));
      return;
    }
    // A fixed spread per meter keeps a fleet from coming back all at once.
    const spread = 0.5 + uniform(keyOf(this.#options.meterId, "retry"), this.#attempt);
    const delayMs = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** this.#attempt) * spread;
    this.#attempt += 1;
    this.#retry = setTimeout(() => this.#open(), delayMs);
  }

  #isOutOfPatience(): boolean {
    const now = performance.now();
    this.#refusedSinceMs ??= now;
    return now - this.#refusedSinceMs >= (this.#options.refusalPatienceMs ?? 5000);
  }

  #send(): void {
    const client = this.#client;
    if (client?.connected !== true) return;
    while (this.#sent < Math.min(this.#pending.length, this.#maxInFlight)) {
      const item = this.#pending[this.#sent];
      if (item === undefined) return;
      this.#sent += 1;
      client.publish(item.topic, item.payload, { qos: 1 }, (error) => {
        if (client === this.#client && !(error instanceof Error)) this.#acknowledged(item);
      });
    }
  }

  #acknowledged(item: Pending): void {
    const index = this.#pending.indexOf(item);
    if (index < 0) return;
    this.#pending.splice(index, 1);
    this.#sent -= 1;
    item.acknowledged.resolve();
    this.#send();
  }

  #fail(failure: GridrootError): void {
    this.#failure ??= failure;
    this.#connected.reject(this.#failure);
    for (const item of this.#pending.splice(0)) item.acknowledged.reject(this.#failure);
  }
}

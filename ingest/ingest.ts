import { createServer, type Server, type Socket } from "node:net";
import type { Logger } from "pino";
import type { Registry } from "prom-client";
import type { EventLog } from "../event-log/event-log.ts";
import { DEAD_LETTER_TOPIC, regionTopic } from "../event-log/topics.ts";
import { REGISTRY_CHANNEL } from "../ledger/meters.ts";
import { SESSION_CHANNEL } from "../ledger/sessions.ts";
import type { Clock } from "../service/clock.ts";
import { limitStatements, listen, type Listener, type Pool } from "../service/database.ts";
import type { FaultPoints } from "../service/faults.ts";
import type { Service } from "../service/lifecycle.ts";
import { Authenticator, type ConnectRequest, type Refusal, REFUSAL } from "./authentication.ts";
import { IngestCounters } from "./counters.ts";
import { GroupCommit } from "./group-commit.ts";
import { InFlightBudget } from "./in-flight-budget.ts";
import { MeterBroker } from "./meter-broker.ts";
import { MeterDirectory } from "./meter-directory.ts";
import { checkOptions, type IngestOptions } from "./options.ts";
import { type CloseReason, PacketGate } from "./packet-gate.ts";
import { PublishHandler } from "./publish-handler.ts";
import { type Session, Sessions } from "./sessions.ts";
import { pause, within } from "./time-limits.ts";

export { DEFAULT_INGEST_LIMITS, type IngestLimits, type IngestOptions } from "./options.ts";

/** Where a crash test kills a worker. */
export const INGEST_FAULT_POINTS = [
  "ingest.session-claimed",
  "ingest.received",
  "ingest.before-append",
  "ingest.after-append",
  "ingest.after-settle",
] as const;

export interface IngestDependencies {
  /** The ledger. */
  readonly pool: Pool;
  /** The ledger's connection string, for LISTEN; not through a pooler in transaction mode. */
  readonly listenUrl: string;
  readonly eventLog: EventLog;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: Registry;
  readonly faults: FaultPoints;
}

/** How often the connections' time limits are looked at. */
const CHECK_EVERY_MS = 250;

/**
 * MQTT in: one worker. Meters connect, publish, and are acknowledged when what they sent is durable in the event log.
 * Several workers share a port with `reusePort`, each in a process of its own.
 */
export class Ingest implements Service {
  readonly name = "ingest";
  readonly #options: IngestOptions;
  readonly #dependencies: IngestDependencies;
  readonly #counters: IngestCounters;
  readonly #budget: InFlightBudget;
  readonly #commit: GroupCommit;
  readonly #directory: MeterDirectory;
  readonly #authenticator: Authenticator;
  readonly #sessions: Sessions;
  readonly #broker: MeterBroker;
  readonly #server: Server;
  readonly #gates = new Set<PacketGate>();
  readonly #sessionByGate = new WeakMap<PacketGate, Session>();
  readonly #listeners: Listener[] = [];
  #checks: NodeJS.Timeout | undefined;

  /** Throws `ingest-options` where the options contradict one another. */
  constructor(options: IngestOptions, dependencies: IngestDependencies) {
    checkOptions(options);
    const { clock, log } = dependencies;
    const db = limitStatements(dependencies.pool, options.appendTimeoutMs);
    this.#options = options;
    this.#dependencies = dependencies;
    this.#counters = new IngestCounters(dependencies.metrics);
    this.#budget = new InFlightBudget({
      maxPackets: options.maxInFlightTotal,
      maxBytes: options.maxInFlightBytes,
    });
    this.#commit = new GroupCommit(options, dependencies);
    this.#directory = new MeterDirectory(
      { maxEntries: options.meterCacheEntries, ttlMs: options.meterCacheTtlMs },
      { db },
    );
    this.#authenticator = new Authenticator(
      { regions: options.regions, lookupTimeoutMs: options.appendTimeoutMs },
      { directory: this.#directory, clock, log },
    );
    this.#sessions = new Sessions(
      { workerId: options.workerId, claimTimeoutMs: options.appendTimeoutMs },
      { db },
    );
    this.#broker = new MeterBroker({
      publishes: new PublishHandler(options, {
        commit: this.#commit,
        counters: this.#counters,
        clock,
        faults: dependencies.faults,
      }),
      openSession: (gate, request) => this.#openSession(gate, request),
    });
    this.#server = createServer({ noDelay: true }, (socket) => this.#accept(socket));
    this.#server.maxConnections = options.maxConnections;
    this.#server.on("drop", () => this.#counters.refused.inc({ code: "limit" }));
  }

  /** The port listened on. */
  get port(): number {
    const address = this.#server.address();
    return typeof address === "object" && address !== null ? address.port : 0;
  }

  /** Whether the log takes appends; while it does not, CONNECTs are refused with code 3. */
  get logAvailable(): boolean {
    return this.#commit.available;
  }

  async start(): Promise<void> {
    const { eventLog, listenUrl, log } = this.#dependencies;
    await eventLog.ensureTopics([
      ...this.#options.regions.map((region) => ({
        topic: regionTopic(region),
        partitions: this.#options.partitionsPerRegion,
      })),
      { topic: DEAD_LETTER_TOPIC, partitions: 1 },
    ]);
    await this.#commit.start();
    this.#listeners.push(
      await listen(listenUrl, REGISTRY_CHANNEL, (payload) => void this.#registryChanged(payload)),
    );
    this.#listeners.push(
      await listen(listenUrl, SESSION_CHANNEL, (payload) => {
        this.#sessions.heard(payload).catch((error: unknown) => {
          log.error({ err: error }, "missed session notices were not looked up");
        });
      }),
    );
    await this.#broker.listen();
    await this.#listenForMeters();
    this.#checks = setInterval(() => {
      for (const gate of this.#gates) gate.check();
    }, CHECK_EVERY_MS);
    log.info({ host: this.#options.host, port: this.port }, "ingest listens");
  }

  /** Rejects where a step took longer than its limit; the others are done all the same. */
  async stop(): Promise<void> {
    const closed = new Promise<void>((done) => this.#server.close(() => done()));
    for (const gate of this.#gates) gate.stopReading();
    await this.#untilNothingInFlight();
    const drained = await settled(this.#commit.stop());
    // PUBRECs leave the broker some turns of the event loop after their publishes are settled.
    for (let turn = 0; turn < 3; turn += 1) await new Promise((done) => setImmediate(done));
    for (const gate of this.#gates) gate.close("stopping");
    clearInterval(this.#checks);
    await new Promise<void>((done) => this.#broker.close(done));
    await closed;
    const listeners = Promise.all(this.#listeners.splice(0).map((listener) => listener.stop()));
    await within(this.#options.stopTimeoutMs, "listener-stop-timeout", listeners);
    if (drained.status === "rejected") throw drained.reason;
  }

  /** What the gates have handed on passes the broker in its own time; it is waited for within the stop limit. */
  async #untilNothingInFlight(): Promise<void> {
    const endMs = performance.now() + this.#options.stopTimeoutMs;
    while (this.#budget.packets > 0 && performance.now() < endMs) await pause(2);
  }

  #listenForMeters(): Promise<void> {
    const { host, port, reusePort } = this.#options;
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen({ host, port, reusePort, backlog: 4096 }, () => {
        this.#server.off("error", reject);
        resolve();
      });
    });
  }

  #accept(socket: Socket): void {
    this.#counters.connections.inc();
    const gate = new PacketGate(this.#options, {
      socket,
      budget: this.#budget,
      events: {
        connectArrived: () => this.#broker.handle(gate),
        closed: (_gate, reason) => this.#connectionClosed(gate, reason),
      },
    });
    this.#gates.add(gate);
  }

  #connectionClosed(gate: PacketGate, reason: CloseReason): void {
    this.#gates.delete(gate);
    this.#counters.connectionClosed(reason);
    const session = this.#sessionByGate.get(gate);
    if (session !== undefined) this.#sessions.remove(session);
    if (reason !== "disconnected") {
      this.#dependencies.log.debug({ meterId: session?.meter.meterId, reason }, "connection closed");
    }
  }

  async #openSession(gate: PacketGate, request: ConnectRequest): Promise<Session | Refusal> {
    const opened = await this.#tryOpenSession(gate, request);
    if (typeof opened === "number") this.#counters.refused.inc({ code: String(opened) });
    else this.#counters.accepted.inc();
    return opened;
  }

  async #tryOpenSession(gate: PacketGate, request: ConnectRequest): Promise<Session | Refusal> {
    if (!this.#commit.available) return REFUSAL.serverUnavailable;
    const meter = await this.#authenticator.authenticate(request);
    if (typeof meter === "number") return meter;
    try {
      const session = await this.#sessions.open(gate, meter);
      this.#dependencies.faults.hit("ingest.session-claimed");
      this.#sessionByGate.set(gate, session);
      return session;
    } catch (error) {
      this.#dependencies.log.warn({ err: error }, "session was not claimed");
      return REFUSAL.serverUnavailable;
    }
  }

  /** A meter changed in the registry, or, without a payload, any may have. */
  async #registryChanged(meterId: string | undefined): Promise<void> {
    this.#directory.forget(meterId);
    for (const changed of meterId === undefined ? this.#sessions.clientIds() : [meterId]) {
      const session = this.#sessions.get(changed);
      if (session === undefined) continue;
      // Where the registry cannot be asked the meter has to prove itself again.
      const meter = await this.#directory.find(changed).catch(() => undefined);
      if (meter !== undefined && this.#authenticator.maySend(meter)) session.meter = meter;
      else session.gate.close("retired");
    }
  }
}

async function settled(work: Promise<void>): Promise<PromiseSettledResult<void>> {
  const [result] = await Promise.allSettled([work]);
  return result;
}

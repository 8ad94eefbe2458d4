import type { Logger } from "pino";
import type { RegistryRecord } from "../domain/metering/registry-records.ts";
import { GridrootError } from "../service/errors.ts";
import type { Service } from "../service/lifecycle.ts";
import type { MessageKind } from "./faults.ts";
import { type Fleet, meterAt } from "./fleet.ts";
import { MeterClient } from "./meter-client.ts";
import type { SimulatedMeter } from "./meter.ts";
import type { PublishAction } from "./messages.ts";
import type { Schedule, SwapAction } from "./schedule.ts";

/** Whoever keeps the registry. */
export interface Operator {
  /** Writes a record to the log of a region and resolves once ingest knows of it. Idempotent by the record's id. */
  submit(region: string, record: RegistryRecord): Promise<void>;
}

export interface FleetDriverOptions {
  readonly fleet: Fleet;
  readonly schedule: Schedule;
  readonly host: string;
  readonly port: number;
  /** From when on the fleet will publish, unix seconds: its devices of then are connected. Default its start. */
  readonly from?: number;
  /** Publishes of all meters that wait for their PUBACK at a time. Default 1,024. */
  readonly maxInFlight?: number;
  /** How long a refused meter tries again, ms. Default 5,000. */
  readonly refusalPatienceMs?: number;
}

/** What the meters of a region did. Readings are counted in payloads, whatever is in them. */
export interface RegionTally {
  /** Readings in payloads handed to MQTT, duplicates and faulty ones included; garbage counts as one. */
  readingsSent: number;
  /** Of those, in payloads that must end as dead letters. */
  refusedReadings: number;
  /** Of those, in payloads that repeat an earlier one byte by byte. */
  duplicatedReadings: number;
  /** PUBLISH packets handed to MQTT. */
  publishesSent: number;
  /** PUBACKs. */
  publishesAcked: number;
  /** Readings that were never published: lost by a fault, or the device is already swapped out. */
  readingsLost: number;
  /** Messages by kind, lost ones included. */
  readonly messages: Partial<Record<MessageKind, number>>;
}

/** Connections that are set up at a time: below the backlog of a listening socket. */
const CONNECT_WAVE = 128;
const CONNECT_DEADLINE_MS = 30_000;

/**
 * The meters of a fleet on real MQTT connections, one each. It publishes what the schedule says; when is up to its
 * caller (`runDay`, `replayThenLive`).
 */
export class FleetDriver implements Service {
  readonly name = "simulator";
  readonly #options: FleetDriverOptions;
  readonly #operator: Operator;
  readonly #log: Logger;
  readonly #maxInFlight: number;
  readonly #clients = new Map<string, MeterClient>();
  readonly #tallies = new Map<string, RegionTally>();
  /** Devices that a swap replaces, sooner or later. */
  readonly #replaced: ReadonlySet<string>;
  #inFlight = 0;
  #changed: PromiseWithResolvers<void> | undefined;
  #failure: Error | undefined;
  #stopped = false;

  constructor(options: FleetDriverOptions, dependencies: { operator: Operator; log: Logger }) {
    this.#options = options;
    this.#operator = dependencies.operator;
    this.#log = dependencies.log;
    this.#maxInFlight = options.maxInFlight ?? 1024;
    this.#replaced = new Set(
      options.fleet.servicePoints.flatMap(({ swap, meter }) => (swap === undefined ? [] : [meter.meterId])),
    );
    for (const { region } of options.fleet.servicePoints) this.#tally(region);
  }

  /**
   * Connects the devices in service at `from`. Rejects with `simulator-not-connected` after 30 s, or with
   * `meter-refused` where the registry does not know a meter.
   */
  async start(): Promise<void> {
    const { fleet, from = fleet.start } = this.#options;
    const meters = fleet.servicePoints.map((point) => meterAt(point, from));
    let timer: NodeJS.Timeout | undefined;
    const deadline = new Promise<never>((_, reject) => {
      const late = new GridrootError("simulator-not-connected", "no MQTT broker answers", {
        retryable: true,
      });
      timer = setTimeout(() => reject(late), CONNECT_DEADLINE_MS);
    });
    try {
      for (let first = 0; first < meters.length; first += CONNECT_WAVE) {
        const wave = meters.slice(first, first + CONNECT_WAVE).map((meter) => this.#connect(meter));
        await Promise.race([Promise.all(wave), deadline]);
      }
    } finally {
      clearTimeout(timer);
    }
    this.#log.info({ meters: meters.length }, "simulated meters connected");
  }

  /** Disconnects all meters. Publishes that wait for a PUBACK are given up: `publishInterval` rejects. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all([...this.#clients.values()].map((client) => client.stop()));
    this.#wake();
  }

  /**
   * Publishes all that is due in the interval that ends at `end` (unix seconds), in the order of event time, and
   * carries out its swaps. Resolves when everything is acknowledged. `waitUntil` is awaited with each event's
   * time, unix seconds; without it events follow one another at once. Calls must not overlap.
   */
  async publishInterval(end: number, waitUntil?: (at: number) => Promise<void>): Promise<void> {
    for (const action of this.#options.schedule.actions(end)) {
      if (waitUntil !== undefined) await waitUntil(action.at);
      if (action.type === "swap") {
        await this.#swap(action);
      } else {
        await this.#inFlightBelow(this.#maxInFlight);
        this.#publish(action);
      }
    }
    await this.#inFlightBelow(1);
  }

  /** What each region's meters have done since this driver was made. */
  tallies(): ReadonlyMap<string, Readonly<RegionTally>> {
    return this.#tallies;
  }

  #publish(action: PublishAction): void {
    const { kind, meter, topic, payload, readings, refused } = action;
    const tally = this.#tally(meter.region);
    tally.messages[kind] = (tally.messages[kind] ?? 0) + 1;
    if (kind === "lost") {
      tally.readingsLost += readings;
      return;
    }
    tally.readingsSent += readings;
    tally.publishesSent += 1;
    if (refused) tally.refusedReadings += readings;
    if (kind === "duplicated") tally.duplicatedReadings += readings;
    this.#inFlight += 1;
    this.#client(meter)
      .publish(topic, payload)
      .then(
        () => {
          tally.publishesAcked += 1;
        },
        (cause: unknown) => this.#onUnacknowledged(action, tally, cause),
      )
      .finally(() => {
        this.#inFlight -= 1;
        this.#wake();
      });
  }

  /** After a restart the schedule may begin before a swap that has taken effect: the old device stays silent. */
  #onUnacknowledged(action: PublishAction, tally: RegionTally, cause: unknown): void {
    const wasSwapped = isRefusal(cause) && this.#replaced.has(action.meter.meterId);
    if (!wasSwapped) {
      this.#failure ??= cause instanceof Error ? cause : new Error(String(cause));
      return;
    }
    tally.readingsSent -= action.readings;
    tally.publishesSent -= 1;
    if (action.refused) tally.refusedReadings -= action.readings;
    if (action.kind === "duplicated") tally.duplicatedReadings -= action.readings;
    tally.readingsLost += action.readings;
  }

  /** The old device has said all it will before the record is written, and the new one speaks after it. */
  async #swap(action: SwapAction): Promise<void> {
    await this.#inFlightBelow(1);
    await this.#clients.get(action.from.meterId)?.stop();
    await this.#operator.submit(action.region, action.record);
    await this.#connect(action.to);
    this.#log.info({ region: action.region, servicePoint: action.record.servicePoint }, "meter swapped");
  }

  async #connect(meter: SimulatedMeter): Promise<void> {
    try {
      await this.#client(meter).connect();
    } catch (cause) {
      if (!isRefusal(cause) || !this.#replaced.has(meter.meterId)) throw cause;
    }
  }

  #client(meter: SimulatedMeter): MeterClient {
    const known = this.#clients.get(meter.meterId);
    if (known !== undefined) return known;
    // A swap whose record was on its way when the fleet was stopped must not bring up one more meter.
    if (this.#stopped) throw stoppedError();
    const { host, port, refusalPatienceMs = 5000 } = this.#options;
    const { meterId, secret } = meter;
    const client = new MeterClient({ host, port, meterId, secret, refusalPatienceMs });
    this.#clients.set(meter.meterId, client);
    client.connect().catch(() => {});
    return client;
  }

  async #inFlightBelow(limit: number): Promise<void> {
    for (;;) {
      if (this.#stopped) throw stoppedError();
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#inFlight < limit) return;
      this.#changed ??= Promise.withResolvers<void>();
      await this.#changed.promise;
    }
  }

  #wake(): void {
    this.#changed?.resolve();
    this.#changed = undefined;
  }

  #tally(region: string): RegionTally {
    let tally = this.#tallies.get(region);
    if (tally === undefined) {
      tally = {
        readingsSent: 0,
        refusedReadings: 0,
        duplicatedReadings: 0,
        publishesSent: 0,
        publishesAcked: 0,
        readingsLost: 0,
        messages: {},
      };
      this.#tallies.set(region, tally);
    }
    return tally;
  }
}

function stoppedError(): GridrootError {
  return new GridrootError("simulator-stopped", "the simulated fleet has stopped");
}

function isRefusal(cause: unknown): boolean {
  return cause instanceof GridrootError && cause.code === "meter-refused";
}

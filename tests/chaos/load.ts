import { setTimeout as delay } from "node:timers/promises";
import { type Fleet, INTERVAL_S } from "../../simulators/fleet.ts";
import { MeterClient } from "../../simulators/meter-client.ts";
import { readingJson, type SimulatedMeter } from "../../simulators/meter.ts";

/** Simulated seconds in a real one: an interval is over, and is sealed and settled, every five seconds. */
export const SPEED = 180;
/** A meter takes a reading every so many simulated seconds; boundaries are among them. */
export const SPACING_S = 30;
/** Readings that one meter takes in a real second. */
export const METER_READINGS_PER_S = SPEED / SPACING_S;

/** Each meter publishes what it has taken once a real second. */
const PUBLISH_EVERY_MS = 1000;
const TICK_MS = 20;
/** What a payload may hold. */
const MOST_READINGS_PER_PUBLISH = 256;
const CONNECT_WAVE = 100;

export interface LoadOptions {
  readonly fleet: Fleet;
  readonly host: string;
  readonly port: number;
}

/** Readings `first` to `last` of a meter, numbered from 1: the `n`-th is taken `n * SPACING_S` after its start. */
interface Run {
  readonly first: number;
  readonly last: number;
}

/** One meter: what it took, and what of it is not acknowledged yet. */
export class LoadMeter {
  readonly meter: SimulatedMeter;
  readonly #client: MeterClient;
  readonly #unacknowledged = new Set<Run>();
  #taken = 0;

  constructor(meter: SimulatedMeter, options: LoadOptions) {
    this.meter = meter;
    const { host, port } = options;
    // The registry knows all meters before the load begins: a refusal is a fault, however long it takes to show.
    this.#client = new MeterClient({ host, port, meterId: meter.meterId, secret: meter.secret });
  }

  connect(): Promise<void> {
    return this.#client.connect();
  }

  stop(): Promise<void> {
    return this.#client.stop();
  }

  get taken(): number {
    return this.#taken;
  }

  get publishesUnacknowledged(): number {
    return this.#unacknowledged.size;
  }

  /** Whether the reading of this number was acknowledged. */
  isAcknowledged(number: number): boolean {
    const isWaiting = [...this.#unacknowledged].some(({ first, last }) => first <= number && number <= last);
    return number >= 1 && number <= this.#taken && !isWaiting;
  }

  /** Takes all readings up to `t`, unix seconds, and publishes them; how many publishes that were. */
  takeUntil(t: number, onRefused: (cause: unknown) => void): number {
    const { utility, region, meterId, installedAt } = this.meter;
    const due = Math.floor((t - installedAt) / SPACING_S);
    let publishes = 0;
    for (; this.#taken < due; publishes += 1) {
      const run = { first: this.#taken + 1, last: Math.min(due, this.#taken + MOST_READINGS_PER_PUBLISH) };
      const readings = Array.from({ length: run.last - run.first + 1 }, (_, index) =>
        readingJson(this.meter, installedAt + (run.first + index) * SPACING_S),
      );
      this.#taken = run.last;
      this.#unacknowledged.add(run);
      this.#client
        .publish(`mt/v1/${utility}/${region}/${meterId}/rd`, `[${readings.join(",")}]`)
        .then(() => this.#unacknowledged.delete(run), onRefused);
    }
    return publishes;
  }
}

/** What the meters have done. */
export interface LoadFigures {
  readonly readingsTaken: number;
  readonly publishes: number;
  readonly publishesUnacknowledged: number;
  /** Real time since the first reading, ms; it stands still once the load has ended. */
  readonly runningMs: number;
}

/**
 * A steady load: meters take readings by a simulated clock that runs `SPEED` times as fast as the real one, and goes
 * on whatever the pipeline does. They publish with QoS 1 over a connection each, keep what is not acknowledged, and
 * send it again. The simulated time lies in the past, where ingest accepts it by the machine's own clock.
 */
export class Load {
  readonly meters: readonly LoadMeter[];
  readonly #start: number;
  #timer: NodeJS.Timeout | undefined;
  #startedMs = 0;
  #endedMs: number | undefined;
  #slot = 0;
  #publishes = 0;
  #failure: unknown;

  constructor(options: LoadOptions) {
    this.meters = options.fleet.servicePoints.map(({ meter }) => new LoadMeter(meter, options));
    this.#start = options.fleet.start;
  }

  /** Connects all meters and begins. */
  async start(): Promise<void> {
    for (let first = 0; first < this.meters.length; first += CONNECT_WAVE) {
      await Promise.all(this.meters.slice(first, first + CONNECT_WAVE).map((meter) => meter.connect()));
    }
    this.#startedMs = performance.now();
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
  }

  /** The simulated time, unix seconds. */
  get nowS(): number {
    const untilMs = this.#endedMs ?? performance.now();
    return this.#start + Math.floor(((untilMs - this.#startedMs) * SPEED) / 1000);
  }

  /** Throws where the pipeline has refused a meter for good. */
  figures(): LoadFigures {
    if (this.#failure !== undefined) throw this.#failure;
    return {
      readingsTaken: this.meters.reduce((sum, { taken }) => sum + taken, 0),
      publishes: this.#publishes,
      publishesUnacknowledged: this.meters.reduce((sum, meter) => sum + meter.publishesUnacknowledged, 0),
      runningMs: (this.#endedMs ?? performance.now()) - this.#startedMs,
    };
  }

  /** Goes on to the next boundary but one and ends with a reading of every meter exactly there; that boundary. */
  async finish(): Promise<number> {
    const end = (Math.ceil(this.nowS / INTERVAL_S) + 1) * INTERVAL_S;
    while (this.nowS < end) await delay(TICK_MS);
    clearInterval(this.#timer);
    this.#endedMs = performance.now();
    for (const meter of this.meters) this.#take(meter, end);
    return end;
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await Promise.all(this.meters.map((meter) => meter.stop()));
  }

  /** Meters take turns, so that publishes are spread evenly over time. */
  #tick(): void {
    const { nowS } = this;
    const slots = Math.floor(((performance.now() - this.#startedMs) / PUBLISH_EVERY_MS) * this.meters.length);
    // Whoever missed a turn, because this process was busy, makes up for all at once.
    this.#slot = Math.max(this.#slot, slots - this.meters.length);
    for (; this.#slot < slots; this.#slot += 1)
      this.#take(this.meters[this.#slot % this.meters.length]!, nowS);
  }

  #take(meter: LoadMeter, t: number): void {
    this.#publishes += meter.takeUntil(t, (cause) => (this.#failure ??= cause));
  }
}

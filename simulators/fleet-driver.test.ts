import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import { after, test } from "node:test";
import { Aedes, type AuthenticateError } from "aedes";
import { pino } from "pino";
import type { RegistryRecord } from "../domain/metering/registry-records.ts";
import { GridrootError } from "../service/errors.ts";
import { SettableClock } from "../service/clock.ts";
import { DEMO_FAULT_RATES, type FaultRates, NO_FAULT_RATES } from "./faults.ts";
import { createFleet, type Fleet, INTERVAL_S } from "./fleet.ts";
import { FleetDriver } from "./fleet-driver.ts";
import { MeterClient } from "./meter-client.ts";
import { replayThenLive, runDay, type RunProgress } from "./runs.ts";
import { type Action, Schedule } from "./schedule.ts";

const START = Date.UTC(2026, 10, 20) / 1000;
const log = pino({ level: "silent" });

interface Received {
  readonly client: string;
  readonly topic: string;
  readonly payload: string;
}

/** A plain Aedes server that writes down what it is sent. `hold` keeps acknowledgements back until it is released. */
class TestBroker {
  readonly received: Received[] = [];
  readonly refused = new Set<string>();
  /** Client ids that have tried to connect. */
  readonly seen = new Set<string>();
  hold: Promise<void> | undefined;
  /** Publishes received, and those answered. */
  held = 0;
  answered = 0;
  ackDelayMs = 0;
  #aedes: Aedes | undefined;
  #server: Server | undefined;
  readonly #sockets = new Set<Socket>();
  #port = 0;

  get port(): number {
    return this.#port;
  }

  async start(): Promise<void> {
    this.#aedes = await Aedes.createBroker({
      authenticate: (client, username, password, done) => {
        this.seen.add(client.id);
        const known = username === client.id && (password?.length ?? 0) >= 32 && !this.refused.has(client.id);
        if (known) done(null, true);
        else done(refusal(5), null);
      },
      authorizePublish: (client, packet, done) => {
        this.received.push({
          client: client?.id ?? "",
          topic: packet.topic,
          payload: packet.payload.toString(),
        });
        this.held += 1;
        void this.#acknowledge(done);
      },
    });
    const { handle } = this.#aedes;
    this.#server = createServer((socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
      handle(socket);
    });
    this.#server.listen(this.#port, "127.0.0.1");
    await once(this.#server, "listening");
    const address = this.#server.address();
    assert.ok(address !== null && typeof address === "object");
    this.#port = address.port;
  }

  async #acknowledge(done: () => void): Promise<void> {
    await this.hold;
    if (this.ackDelayMs > 0) await new Promise((resolve) => setTimeout(resolve, this.ackDelayMs));
    this.answered += 1;
    done();
  }

  /** Cuts every connection as a crash would: no acknowledgement, no goodbye. */
  async stop(): Promise<void> {
    const closed = this.#server === undefined ? Promise.resolve() : once(this.#server, "close");
    this.#server?.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
    const aedes = this.#aedes;
    if (aedes !== undefined) await new Promise<void>((resolve) => aedes.close(resolve));
    this.#server = undefined;
    this.#aedes = undefined;
  }
}

/** Aedes declares its CONNACK codes as a `const enum`, which erasable TypeScript cannot read. */
function refusal(returnCode: number): AuthenticateError {
  const error: Error & { returnCode?: unknown } = new Error("refused");
  error.returnCode = returnCode;
  return error as AuthenticateError;
}

const stops: (() => Promise<void>)[] = [];
after(async () => {
  for (const stop of stops.reverse()) await stop();
});

async function brokerForTest(): Promise<TestBroker> {
  const broker = new TestBroker();
  await broker.start();
  stops.push(() => broker.stop());
  return broker;
}

interface Setup {
  readonly fleet: Fleet;
  readonly schedule: Schedule;
  readonly driver: FleetDriver;
  readonly submitted: { region: string; record: RegistryRecord; after: number; unanswered: number }[];
}

function setUp(
  broker: TestBroker,
  options: {
    intervals?: number;
    rates?: FaultRates;
    maxInFlight?: number;
    onSubmit?: (driver: FleetDriver) => Promise<void>;
  } = {},
): Setup {
  const { intervals = 12, rates = DEMO_FAULT_RATES, maxInFlight = 1024, onSubmit } = options;
  const fleet = createFleet({
    seed: "driver",
    secretKey: "not a secret",
    regions: [
      { name: "bangkok", utility: "mea" },
      { name: "central", utility: "pea" },
    ],
    metersPerRegion: 5,
    start: START,
    intervals,
  });
  const schedule = new Schedule({ fleet, rates, lastEnd: START + intervals * INTERVAL_S });
  const submitted: Setup["submitted"] = [];
  const operator = {
    submit: (region: string, record: RegistryRecord): Promise<void> => {
      const unanswered = broker.held - broker.answered;
      submitted.push({ region, record, after: broker.received.length, unanswered });
      return onSubmit?.(driver) ?? Promise.resolve();
    },
  };
  const driver = new FleetDriver(
    {
      fleet,
      schedule,
      host: "127.0.0.1",
      port: broker.port,
      maxInFlight,
      refusalPatienceMs: 100,
    },
    { operator, log },
  );
  stops.push(() => driver.stop());
  return { fleet, schedule, driver, submitted };
}

function expected(schedule: Schedule, first: number, last: number): Received[] {
  const ends = Array.from({ length: last - first + 1 }, (_, index) => START + (first + index) * INTERVAL_S);
  return ends.flatMap((end) => schedule.actions(end)).flatMap(receivedOf);
}

function receivedOf(action: Action): Received[] {
  if (action.type === "swap" || action.kind === "lost") return [];
  return [{ client: action.meter.meterId, topic: action.topic, payload: action.payload.toString() }];
}

function byClient(received: readonly Received[]): ReadonlyMap<string, readonly Received[]> {
  return Map.groupBy(received, ({ client }) => client);
}

async function until(condition: () => boolean): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!condition()) {
    assert.ok(performance.now() < deadline, "the condition holds within 10 s");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

const noThrottle = { setIngestClock: () => Promise.resolve(), waitForRoom: () => Promise.resolve() };

test("a day is published to the byte, in order for each meter, and every packet is acknowledged", async () => {
  const broker = await brokerForTest();
  const { schedule, driver } = setUp(broker);
  const steps: string[] = [];
  await driver.start();
  await runDay(
    { driver, from: START, intervals: 12 },
    {
      waitForRoom: (end) => Promise.resolve(void steps.push(`room ${end - START}`)),
      setIngestClock: (nowMs) => {
        steps.push(`clock ${nowMs / 1000 - START} after ${broker.received.length}`);
        return Promise.resolve();
      },
      onProgress: ({ intervalEnd }) => void steps.push(`done ${intervalEnd - START}`),
    },
  );
  const first = expected(schedule, 1, 1).length;
  assert.deepEqual(steps.slice(0, 3), ["room 900", "clock 960 after 0", "done 900"]);
  assert.deepEqual(steps.slice(3, 6), ["room 1800", `clock 1860 after ${first}`, "done 1800"]);
  const sent = expected(schedule, 1, 12);
  assert.deepEqual(byClient(broker.received), byClient(sent));
  const tallies = [...driver.tallies().values()];
  const sum = (field: "publishesAcked" | "publishesSent"): number =>
    tallies.reduce((total, tally) => total + tally[field], 0);
  assert.equal(sum("publishesSent"), sent.length);
  assert.equal(sum("publishesAcked"), sent.length);
  assert.deepEqual([...driver.tallies().keys()], ["bangkok", "central"]);
});

test("readings are counted in payloads: arrays by their length, garbage as one, lost ones not as sent", async () => {
  const broker = await brokerForTest();
  const intervals = {
    ...NO_FAULT_RATES.intervals,
    garbage: 0.2,
    lost: 0.2,
    duplicated: 0.2,
    foreignTopic: 0.2,
  };
  const { driver, schedule } = setUp(broker, { rates: { intervals, outage: 1 }, intervals: 30 });
  await driver.start();
  await runDay({ driver, from: START, intervals: 30 }, noThrottle);
  assert.deepEqual(byClient(broker.received), byClient(expected(schedule, 1, 30)));
  for (const [region, tally] of driver.tallies()) {
    const payloads = broker.received
      .filter(({ client }) => client.includes(region))
      .map(({ payload }) => payload);
    const readings = payloads.map((payload) => payload.match(/"seq":\d+,"t":\d+,.*?"status"/g)?.length ?? 1);
    assert.equal(
      tally.readingsSent,
      readings.reduce((sum, count) => sum + count, 0),
    );
    assert.ok(tally.readingsLost > 0 && tally.refusedReadings > 0 && tally.duplicatedReadings > 0);
    assert.equal(tally.messages.lost, tally.readingsLost);
    assert.ok((tally.messages.backlog ?? 0) > 0);
  }
});

test("a swap waits for the old meter's acknowledgements and precedes the new meter's first publish", async () => {
  const broker = await brokerForTest();
  const { fleet, driver, submitted } = setUp(broker);
  broker.ackDelayMs = 3;
  await driver.start();
  await runDay({ driver, from: START, intervals: 12 }, noThrottle);
  assert.deepEqual(
    submitted.map(({ unanswered }) => unanswered),
    [0, 0],
  );
  for (const { servicePoint, swap, meter, region } of fleet.servicePoints) {
    if (swap === undefined) continue;
    const written = submitted.find(({ record }) => record.servicePoint === servicePoint);
    assert.deepEqual([written?.region, written?.record], [region, swap.record]);
    const before = broker.received.slice(0, written?.after).map(({ client }) => client);
    const after = broker.received.slice(written?.after).map(({ client }) => client);
    assert.ok(before.includes(meter.meterId) && !after.includes(meter.meterId));
    assert.ok(after.includes(swap.meter.meterId) && !before.includes(swap.meter.meterId));
  }
});

test("a stop while a swap is being written connects no further meter", async () => {
  const broker = await brokerForTest();
  const { fleet, driver, submitted } = setUp(broker, { onSubmit: (running) => running.stop() });
  await driver.start();
  await assert.rejects(runDay({ driver, from: START, intervals: 12 }, noThrottle), {
    code: "simulator-stopped",
  });
  assert.equal(submitted.length, 1);
  const newcomers = fleet.servicePoints.flatMap(({ swap }) =>
    swap === undefined ? [] : [swap.meter.meterId],
  );
  assert.deepEqual(
    newcomers.filter((meterId) => broker.seen.has(meterId)),
    [],
  );
});

test("a broker that dies with publishes unacknowledged gets them again, in order, and none is lost", async () => {
  const broker = await brokerForTest();
  const { schedule, driver } = setUp(broker);
  await driver.start();
  broker.hold = new Promise(() => {});
  const run = runDay({ driver, from: START, intervals: 12 }, noThrottle);
  await until(() => broker.held >= 10);
  await broker.stop();
  const lostWithBroker = broker.received.splice(0);
  broker.hold = undefined;
  await broker.start();
  await until(() => broker.received.length >= 40);
  await broker.stop();
  await broker.start();
  await run;
  const sent = expected(schedule, 1, 12);
  assert.ok(lostWithBroker.length >= 10);
  const unique = (list: readonly Received[]): Received[] => [
    ...new Map(list.map((item) => [JSON.stringify(item), item])).values(),
  ];
  assert.deepEqual(byClient(unique(broker.received)), byClient(unique(sent)));
  const acked = [...driver.tallies().values()].reduce((total, tally) => total + tally.publishesAcked, 0);
  assert.equal(acked, sent.length);
});

test("no more publishes wait for their acknowledgement than the limit", async () => {
  const broker = await brokerForTest();
  const { driver } = setUp(broker, { maxInFlight: 3 });
  await driver.start();
  const release = Promise.withResolvers<void>();
  broker.hold = release.promise;
  const run = driver.publishInterval(START + INTERVAL_S);
  await until(() => broker.held >= 3);
  // A round trip of another connection: what was sent before it would have come.
  const probe = new MeterClient({
    host: "127.0.0.1",
    port: broker.port,
    meterId: "probe",
    secret: "p".repeat(64),
  });
  await probe.connect();
  await probe.stop();
  assert.equal(broker.received.length, 3);
  release.resolve();
  await run;
});

test("a meter the registry does not know is refused after its patience, with what it had to publish", async () => {
  const broker = await brokerForTest();
  broker.refused.add("stranger");
  const client = new MeterClient({
    host: "127.0.0.1",
    port: broker.port,
    meterId: "stranger",
    secret: "s".repeat(64),
    refusalPatienceMs: 50,
  });
  const isRefused = (error: unknown): boolean =>
    error instanceof GridrootError && error.code === "meter-refused";
  const published = assert.rejects(client.publish("mt/v1/mea/bangkok/stranger/rd", "{}"), isRefused);
  await assert.rejects(client.connect(), isRefused);
  await published;
  await assert.rejects(client.publish("mt/v1/mea/bangkok/stranger/rd", "{}"), isRefused);
  await client.stop();
});

test("a meter whose commissioning is on its way connects as soon as it is known", async () => {
  const broker = await brokerForTest();
  broker.refused.add("new");
  const client = new MeterClient({
    host: "127.0.0.1",
    port: broker.port,
    meterId: "new",
    secret: "s".repeat(64),
  });
  const published = client.publish("mt/v1/mea/bangkok/new/rd", "{}");
  void client.connect();
  setTimeout(() => broker.refused.delete("new"), 150);
  await published;
  assert.equal(broker.received.length, 1);
  await client.stop();
});

test("stopping gives up what waits and ends a run", async () => {
  const broker = await brokerForTest();
  const { driver } = setUp(broker);
  await driver.start();
  broker.hold = new Promise(() => {});
  const run = assert.rejects(
    driver.publishInterval(START + INTERVAL_S),
    (error) => error instanceof GridrootError && error.code === "simulator-stopped",
  );
  await until(() => broker.held >= 5);
  await driver.stop();
  await run;
});

test("a replay catches up, throttled, and goes on live until it is stopped", async () => {
  const broker = await brokerForTest();
  const { schedule, driver } = setUp(broker, { rates: NO_FAULT_RATES });
  const progress: RunProgress[] = [];
  const rooms: number[] = [];
  const clock = new SettableClock((START + 3 * INTERVAL_S + 60) * 1000);
  const stop = new AbortController();
  await driver.start();
  const run = replayThenLive(
    { driver, from: START },
    {
      clock,
      signal: stop.signal,
      waitForRoom: (end) => Promise.resolve(void rooms.push(end)),
      onProgress: (step) => void progress.push(step),
    },
  );
  await until(() => progress.length === 3);
  assert.deepEqual(
    rooms,
    [1, 2, 3].map((interval) => START + interval * INTERVAL_S),
  );
  assert.ok(progress.every(({ replayed }) => replayed));
  assert.equal(broker.received.length, expected(schedule, 1, 3).length);

  const live = schedule.actions(START + 4 * INTERVAL_S);
  const halfway = START + 4 * INTERVAL_S + 5;
  clock.set(halfway * 1000);
  const due = live.filter(({ at }) => at <= halfway).flatMap(receivedOf).length;
  await until(() => broker.received.length === expected(schedule, 1, 3).length + due);
  assert.equal(progress.length, 3);
  clock.set((START + 4 * INTERVAL_S + 40) * 1000);
  await until(() => progress.length === 4);
  assert.deepEqual(progress[3], { intervalEnd: START + 4 * INTERVAL_S, replayed: false });
  assert.deepEqual(byClient(broker.received), byClient(expected(schedule, 1, 4)));
  stop.abort();
  await run;
});

test("a run that begins again repeats its messages, and a swapped meter that is refused stays silent", async () => {
  const broker = await brokerForTest();
  const first = setUp(broker);
  await first.driver.start();
  await runDay({ driver: first.driver, from: START, intervals: 8 }, noThrottle);
  await first.driver.stop();
  const sent = new Set(broker.received.splice(0).map((item) => JSON.stringify(item)));

  const swapped = first.fleet.servicePoints.flatMap(({ swap, meter }) =>
    swap === undefined ? [] : [meter.meterId],
  );
  for (const meterId of swapped) broker.refused.add(meterId);
  const second = setUp(broker);
  await second.driver.start();
  await runDay({ driver: second.driver, from: START, intervals: 8 }, noThrottle);
  const again = broker.received.map((item) => JSON.stringify(item));
  assert.ok(again.every((item) => sent.has(item)));
  assert.ok(broker.received.every(({ client }) => !swapped.includes(client)));
  assert.equal(second.submitted.length, 2);
  for (const tally of second.driver.tallies().values())
    assert.equal(tally.publishesAcked, tally.publishesSent);
});

import assert from "node:assert/strict";
import { fork } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test, type TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import pino from "pino";
import { type KafkaCluster, startKafka } from "../../deploy/stack/kafka.ts";
import type { NativeServer } from "../../deploy/stack/native-server.ts";
import { ConnectionCutter } from "../../tests/support/connection-cutter.ts";
import { until } from "../../tests/support/until.ts";
import type { Appender, EventLog } from "../event-log.ts";
import { KafkaConnection } from "./kafka-connection.ts";
import { KafkaEventLog, type KafkaEventLogOptions } from "./kafka-event-log.ts";

const log = pino({ level: "silent" });
const PARTITIONS = 3;

/** Appends `key` again and again until it has been confirmed, as a meter sends again until it is acknowledged. */
async function appendSurely(
  appender: Appender,
  topic: string,
  partition: number,
  key: string,
  onFailure: () => void = () => {},
): Promise<void> {
  await until(
    `${key} is confirmed`,
    async () => {
      try {
        await appender.append([{ topic, partition, key, headers: {}, value: Buffer.from(key) }]);
        return true;
      } catch (error) {
        assert.equal((error as { code?: string }).code, "append-failed");
        assert.equal((error as { retryable?: boolean }).retryable, true);
        onFailure();
        return false;
      }
    },
    60_000,
  );
}

/** Appenders that go on until told to stop, one to a partition, and what was confirmed to each. */
class Load {
  readonly confirmed: string[][] = Array.from({ length: PARTITIONS }, () => []);
  failures = 0;
  readonly #eventLog: KafkaEventLog;
  readonly #topic: string;
  readonly #test: TestContext;
  readonly #running: Promise<void[]>;
  #enough = false;

  constructor(t: TestContext, eventLog: KafkaEventLog, topic: string) {
    this.#test = t;
    t.after(() => this.#stop());
    this.#eventLog = eventLog;
    this.#topic = topic;
    this.#running = Promise.all(this.confirmed.map((_, partition) => this.#appendAll(partition)));
  }

  count(): number {
    return this.confirmed.flat().length;
  }

  /** Waits for so many appends more in every partition. */
  async more(appends: number): Promise<void> {
    const goals = this.confirmed.map(({ length }) => length + appends);
    await until(
      "the load goes on",
      () => this.confirmed.every(({ length }, partition) => length >= goals[partition]!),
      60_000,
    );
  }

  /** Stops and compares: every key that was confirmed is there, in order; repeats are allowed. */
  async check(): Promise<void> {
    await this.#stop();
    let repeats = 0;
    for (const [partition, confirmed] of this.confirmed.entries()) {
      const records = await this.#eventLog.read({ topic: this.#topic, partition }, 0n, 1_000_000);
      const keys = records.map(({ key }) => key);
      assert.deepEqual([...new Set(keys)], confirmed);
      repeats += keys.length - confirmed.length;
    }
    this.#test.diagnostic(`${this.count()} confirmed, ${this.failures} appends failed, ${repeats} repeated`);
  }

  async #stop(): Promise<void> {
    this.#enough = true;
    await this.#running;
  }

  async #appendAll(partition: number): Promise<void> {
    const appender = await this.#eventLog.openAppender();
    for (let n = 0; !this.#enough; n += 1) {
      const key = `${partition}-${n}`;
      await appendSurely(appender, this.#topic, partition, key, () => (this.failures += 1));
      this.confirmed[partition]!.push(key);
    }
    await appender.close();
  }
}

/** A cluster of the tests' own, and logs on it; nothing of them is left afterwards. */
function clusterOf(brokers: 1 | 3) {
  let folder = "";
  const logs: KafkaEventLog[] = [];
  let cluster: KafkaCluster | undefined;
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "gridroot-kafka-faults-"));
    cluster = await startKafka({ dataDir: folder, brokers });
  });
  after(async () => {
    await Promise.all(logs.map((one) => one.close()));
    await cluster?.stop();
    await rm(folder, { recursive: true, force: true });
  });
  const options = (more: Partial<KafkaEventLogOptions> = {}): KafkaEventLogOptions => ({
    brokers: cluster!.bootstrap,
    namespace: "faults",
    replication: brokers,
    minInsyncReplicas: brokers === 1 ? 1 : 2,
    ...more,
  });
  return {
    options,
    brokers: () => cluster!.brokers,
    async open(
      topic: string,
      more: Partial<KafkaEventLogOptions> = {},
      logger = log,
    ): Promise<KafkaEventLog> {
      const eventLog = await KafkaEventLog.open(options(more), { log: logger });
      logs.push(eventLog);
      await eventLog.ensureTopics([{ topic, partitions: PARTITIONS }]);
      return eventLog;
    },
  };
}

describe("Kafka, one broker", () => {
  const cluster = clusterOf(1);

  test("what was confirmed before the broker was killed is there after its restart, and the log goes on", async (t) => {
    const lines: string[] = [];
    const logger = pino({ level: "info" }, { write: (line) => lines.push(line) });
    const eventLog = await cluster.open("killed", {}, logger);
    await eventLog.ensureTopics([{ topic: "down", partitions: 1 }]);
    const load = new Load(t, eventLog, "killed");
    await load.more(50);
    await cluster.brokers()[0]!.kill();
    const fresh = await eventLog.openAppender();
    const append = () =>
      fresh.append([{ topic: "down", partition: 0, key: "k", headers: {}, value: Buffer.from("v") }]);
    await assert.rejects(append(), { code: "append-failed" });
    await cluster.brokers()[0]!.start();
    await load.more(50);
    await append();
    await load.check();
    await eventLog.ensureTopics([{ topic: "killed", partitions: PARTITIONS }]);
    assert.ok(lines.length <= 40, `an outage is told in few lines, not in ${lines.length}`);
  });

  test("an append to a broker that does not answer rejects within the bound, and the next one after it resolves", async () => {
    const appendTimeoutMs = 1_500;
    const eventLog = await cluster.open("paused", { appendTimeoutMs });
    const appender = await eventLog.openAppender();
    const fresh = await eventLog.openAppender();
    await appendSurely(appender, "paused", 0, "before");
    cluster.brokers()[0]!.pause();
    try {
      // On open connections, while connecting again, and while connecting for the first time.
      for (const [key, by] of [
        ["during", appender],
        ["connecting", appender],
        ["first", fresh],
      ] as const) {
        // A partition of each producer.
        const records = [0, 1].map((partition) => ({
          topic: "paused",
          partition,
          key,
          headers: {},
          value: Buffer.from(key),
        }));
        const startedAt = performance.now();
        const outcome = Promise.race([by.append(records), delay(10_000, undefined, { ref: false })]);
        await assert.rejects(outcome, { code: "append-failed", retryable: true });
        const tookMs = performance.now() - startedAt;
        assert.ok(tookMs < appendTimeoutMs + 500, `took ${tookMs} ms`);
      }
    } finally {
      cluster.brokers()[0]!.resume();
    }
    await appendSurely(appender, "paused", 0, "after");
    await appendSurely(fresh, "paused", 0, "after, too");
    const keys = (await eventLog.read({ topic: "paused", partition: 0 }, 0n, 1_000)).map(({ key }) => key);
    assert.equal(keys[0], "before");
    assert.ok(keys.includes("after") && keys.includes("after, too"));
  });

  test("connections that are cut again and again lose and reorder nothing", async (t) => {
    const cutter = new ConnectionCutter(cluster.brokers().map(({ port }) => port));
    t.after(() => cutter.close());
    const eventLog = await cluster.open("cut");
    const load = new Load(t, eventLog, "cut");
    let cuts = 0;
    for (let round = 0; round < 20; round += 1) {
      await load.more(5);
      cuts += cutter.cut();
      assert.equal((await eventLog.bounds({ topic: "cut", partition: 0 })).first, 0n);
    }
    assert.ok(cuts > 20);
    await load.check();
  });

  for (const [point, unconfirmed] of [
    ["event-log.before-append", 0],
    ["event-log.after-append", 1],
  ] as const) {
    test(`a process killed at ${point} loses nothing that was confirmed, and readers see what it left`, async () => {
      const topic = `crash-${unconfirmed}`;
      const eventLog = await cluster.open(topic);
      const program = fileURLToPath(new URL("../../tests/support/kafka-appender.ts", import.meta.url));
      const child = fork(program, [JSON.stringify(cluster.options()), topic, `${point}:20`]);
      const confirmed: string[] = [];
      child.on("message", (key) => confirmed.push(key as string));
      const [, signalName] = (await once(child, "exit")) as [number | null, string | null];
      assert.equal(signalName, "SIGKILL");
      const keys = (await eventLog.read({ topic, partition: 0 }, 0n, 1_000)).map(({ key }) => key);
      assert.deepEqual(keys.slice(0, confirmed.length), confirmed);
      assert.equal(keys.length, 19 + unconfirmed);
    });
  }
});

/** The broker that leads a partition. */
async function leaderOf(
  options: KafkaEventLogOptions,
  brokers: readonly NativeServer[],
  topic: string,
  partition: number,
): Promise<NativeServer> {
  const connection = await KafkaConnection.open(
    { ...options, connectTimeoutMs: 2_000, requestTimeoutMs: 10_000 },
    { log },
  );
  const name = connection.topicName(topic);
  const { topics } = await connection.admin.fetchTopicMetadata({ topics: [name] });
  await connection.close();
  const { leader } = topics[0]!.partitions.find(({ partitionId }) => partitionId === partition)!;
  return brokers[leader - 1]!;
}

describe("Kafka, three brokers", () => {
  const cluster = clusterOf(3);

  test("appends go on after a leader was killed, and nothing confirmed is lost", async (t) => {
    const eventLog = await cluster.open("moved");
    const load = new Load(t, eventLog, "moved");
    await load.more(50);
    const leader = await leaderOf(cluster.options(), cluster.brokers(), "moved", 0);
    await leader.kill();
    const killedAt = performance.now();
    await load.more(20);
    t.diagnostic(`all partitions go on after ${Math.round(performance.now() - killedAt)} ms`);
    await leader.start();
    await load.more(20);
    await load.check();
  });

  test("with fewer replicas in sync than are wanted appends reject, and what is confirmed afterwards follows what was before", async (t) => {
    const topic = "in-sync";
    const eventLog = await cluster.open(topic, { replication: 2, minInsyncReplicas: 2 });
    const load = new Load(t, eventLog, topic);
    await load.more(20);
    const leader = await leaderOf(cluster.options(), cluster.brokers(), topic, 0);
    await leader.kill();
    await until("appends are refused", () => load.failures > 0, 30_000);
    await leader.start();
    await load.more(20);
    await load.check();
  });

  test("a paused leader holds appends back for no longer than it takes to be replaced", async (t) => {
    const eventLog = await cluster.open("replaced");
    const load = new Load(t, eventLog, "replaced");
    await load.more(20);
    const leader = await leaderOf(cluster.options(), cluster.brokers(), "replaced", 0);
    leader.pause();
    try {
      await load.more(20);
    } finally {
      leader.resume();
    }
    await load.more(20);
    await load.check();
  });

  test("a leader that was replaced while it was paused is not believed when it wakes", async (t) => {
    const topic = "woken";
    const eventLog = await cluster.open(topic);
    const load = new Load(t, eventLog, topic);
    await load.more(20);
    const leader = await leaderOf(cluster.options(), cluster.brokers(), topic, 0);
    // It asks the sleeper first, and so hears before anybody else how the cluster was when it fell asleep.
    const brokers = [leader, ...cluster.brokers().filter((one) => one !== leader)];
    const reader = await KafkaEventLog.open(
      cluster.options({ brokers: brokers.map(({ port }) => `127.0.0.1:${port}`) }),
      { log },
    );
    t.after(() => reader.close());
    leader.pause();
    let seen: ReturnType<EventLog["bounds"]>;
    let confirmed = 0;
    try {
      await load.more(20);
      seen = reader.bounds({ topic, partition: 0 });
      await load.more(20);
      confirmed = load.confirmed[0]!.length;
    } finally {
      leader.resume();
    }
    const { next } = await seen;
    assert.ok(next >= BigInt(confirmed), `${confirmed} were confirmed, ${next} are seen`);
    await load.check();
  });
});

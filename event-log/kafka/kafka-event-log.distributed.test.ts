import assert from "node:assert/strict";
import { type ChildProcess, fork } from "node:child_process";
import { randomBytes, randomUUID } from "node:crypto";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { setTimeout as delay } from "node:timers/promises";
import kafkajs from "kafkajs";
import pino from "pino";
import { until } from "../../tests/support/until.ts";
import { type ContractSubject, eventLogContract } from "../contract-suite.ts";
import type { Appender, EventLog } from "../event-log.ts";
import { deleteKafkaNamespace } from "./delete-namespace.ts";
import { KafkaConnection } from "./kafka-connection.ts";
import { KafkaEventLog } from "./kafka-event-log.ts";
import { KafkaPartitions } from "./kafka-partitions.ts";
import { toMessage } from "./kafka-records.ts";
import { checkPosition, markAfter } from "./positions.ts";

const SESSION_TIMEOUT_MS = 6_000;
const TIMEOUTS = { connectTimeoutMs: 2_000, requestTimeoutMs: 10_000 };
const warnings: string[] = [];
process.on("warning", ({ name, message }) => warnings.push(`${name}: ${message}`));
const log = pino({ level: "silent" });

const brokers = (process.env["TEST_KAFKA_BROKERS"] ?? "").split(",");

eventLogContract("Kafka", async (): Promise<ContractSubject> => {
  const options = {
    brokers,
    namespace: `contract-${randomUUID().slice(0, 8)}`,
    replication: 1,
    minInsyncReplicas: 1,
    sessionTimeoutMs: SESSION_TIMEOUT_MS,
    retryPauseMs: 100,
  };
  const main = await KafkaEventLog.open(options, { log });
  const bare = await KafkaConnection.open({ ...options, ...TIMEOUTS }, { log });
  const children: ChildProcess[] = [];
  return {
    log: main,
    openAnother: () => KafkaEventLog.open(options, { log }),
    openSlowAppender: async (maxDelayMs) => slowAppender(await main.openAppender(), maxDelayMs),
    async joinElsewhere(group, topics) {
      const program = fileURLToPath(new URL("../../tests/support/kafka-member.ts", import.meta.url));
      const child = fork(program, [JSON.stringify(options), group, ...topics]);
      children.push(child);
      await once(child, "message");
      return {
        async kill() {
          child.kill("SIGKILL");
          await once(child, "exit");
        },
      };
    },
    async recreateTopic({ topic, partitions }) {
      await deleteTopic(bare, bare.topicName(topic));
      await main.ensureTopics([{ topic, partitions }]);
    },
    truncateTopic: (topic, nextOffset) => restoreOldBackup(main, bare, topic, nextOffset),
    takeOverWithinMs: 4 * SESSION_TIMEOUT_MS,
    async close() {
      for (const child of children) child.kill("SIGKILL");
      await main.close();
      await bare.close();
      await deleteKafkaNamespace({ ...options, ...TIMEOUTS }, { log });
    },
  };
});

describe("event log on Kafka", () => {
  const options = {
    brokers,
    namespace: `kafka-${randomUUID().slice(0, 8)}`,
    replication: 1,
    minInsyncReplicas: 1,
  };
  let eventLog: KafkaEventLog;
  let bare: KafkaConnection;
  before(async () => {
    eventLog = await KafkaEventLog.open(options, { log });
    bare = await KafkaConnection.open({ ...options, ...TIMEOUTS }, { log });
  });
  after(async () => {
    await eventLog.close();
    await bare.close();
    await deleteKafkaNamespace({ ...options, ...TIMEOUTS }, { log });
  });
  const partition = (topic: string) => ({ topic, partition: 0 });
  const appendKeys = async (topic: string, keys: readonly string[], bytes = 1) => {
    const appender = await eventLog.openAppender();
    const records = keys.map((key) => ({
      ...partition(topic),
      key,
      headers: {},
      value: randomBytes(bytes),
    }));
    await appender.append(records);
    await appender.close();
  };

  for (const [name, value] of [
    ["message.timestamp.type", "CreateTime"],
    ["retention.ms", "604800000"],
    ["retention.bytes", "1000000"],
    ["cleanup.policy", "compact"],
    ["unclean.leader.election.enable", "true"],
  ] as const) {
    test(`a topic that would lose records or tell other times is refused: ${name} is ${value}`, async () => {
      const topic = `refused.${name}`;
      const kept = [
        { name: "message.timestamp.type", value: "LogAppendTime" },
        { name: "retention.ms", value: "-1" },
      ];
      await bare.admin.createTopics({
        topics: [
          {
            topic: bare.topicName(topic),
            numPartitions: 1,
            configEntries: [...kept.filter((entry) => entry.name !== name), { name, value }],
          },
        ],
        waitForLeaders: false,
      });
      await assert.rejects(eventLog.ensureTopics([{ topic, partitions: 1 }]), (error: Error) => {
        assert.equal((error as { code?: string }).code, "topic-settings");
        assert.match(error.message, new RegExp(`${name} is ${value} instead of`));
        return true;
      });
    });
  }

  test("an append larger than the broker takes at once is appended in order", async () => {
    await eventLog.ensureTopics([{ topic: "large", partitions: 1 }]);
    const keys = Array.from({ length: 300 }, (_, n) => `${n}`);
    await appendKeys("large", keys, 20_000);
    const read = await eventLog.read(partition("large"), 0n, 1_000);
    assert.deepEqual(
      read.map(({ key }) => key),
      keys,
    );
    assert.ok(read.every(({ value }) => value.length === 20_000));
  });

  test("a record that the topic cannot hold is refused for good", async () => {
    await eventLog.ensureTopics([{ topic: "too-large", partitions: 1 }]);
    await assert.rejects(appendKeys("too-large", ["a"], 3_000_000), {
      code: "record-too-large",
      retryable: false,
    });
    await appendKeys("too-large", ["b"]);
    assert.equal((await eventLog.bounds(partition("too-large"))).next, 1n);
  });

  test("headers may have names that every object inherits", async () => {
    await eventLog.ensureTopics([{ topic: "headers", partitions: 1 }]);
    const headers = { constructor: "a", toString: "b", hasOwnProperty: "c", kind: "rd" };
    const appender = await eventLog.openAppender();
    await appender.append([{ ...partition("headers"), key: "k", headers, value: Buffer.from("v") }]);
    const [read] = await eventLog.read(partition("headers"), 0n, 1);
    assert.deepEqual(Object.entries(read!.headers).sort(), Object.entries(headers).sort());
  });

  test("after a trim a position is still compared with the record before it", async () => {
    await eventLog.ensureTopics([{ topic: "marks", partitions: 1 }]);
    await appendKeys("marks", ["a", "b", "c", "d"]);
    const records = await eventLog.read(partition("marks"), 0n, 9);
    const positions = new KafkaPartitions({ minInsyncReplicas: 1, timeoutMs: 10_000 }, { connection: bare });
    await eventLog.trim(partition("marks"), 3n);
    assert.deepEqual(await eventLog.bounds(partition("marks")), { first: 3n, next: 4n });
    const check = (mark: string, nextOffset: bigint) =>
      checkPosition(positions, partition("marks"), { nextOffset, mark });
    const [, b, c] = records;
    assert.equal(await check(markAfter(bare.clusterId, c!), 3n), undefined);
    const later = { ...c!, appendTimeMs: c!.appendTimeMs + 1 };
    for (const [mark, offset, code] of [
      [markAfter(bare.clusterId, later), 3n, "log-recreated"],
      [markAfter(bare.clusterId, { ...c!, key: "x" }), 3n, "log-recreated"],
      [markAfter("other-cluster", c!), 3n, "log-recreated"],
      [markAfter(bare.clusterId, b!), 2n, "log-trimmed"],
      [markAfter(bare.clusterId, c!), 5n, "log-truncated"],
    ] as const) {
      assert.equal((await check(mark, offset))?.code, code, `${mark} at ${offset}`);
    }
    await positions.close();
  });

  test("a record is read back quickly, and reading leaves no group behind", async (t) => {
    await eventLog.ensureTopics([{ topic: "quick", partitions: 1 }]);
    await appendKeys(
      "quick",
      Array.from({ length: 1_000 }, (_, n) => `${n}`),
      500,
    );
    const positions = new KafkaPartitions({ minInsyncReplicas: 1, timeoutMs: 10_000 }, { connection: bare });
    const tookMs: number[] = [];
    for (let n = 0n; n < 50n; n += 1n) {
      const began = performance.now();
      assert.equal((await positions.recordAt(partition("quick"), 20n * n))?.key, `${20n * n}`);
      tookMs.push(performance.now() - began);
    }
    const all = Array.from({ length: 100 }, (_, n) => positions.recordAt(partition("quick"), BigInt(n)));
    assert.deepEqual(
      (await Promise.all(all)).map((record) => record?.key),
      Array.from({ length: 100 }, (_, n) => `${n}`),
    );
    await positions.close();
    const medianMs = tookMs.sort((a, b) => a - b)[25]!;
    t.diagnostic(`median ${medianMs.toFixed(1)} ms`);
    assert.ok(medianMs < 50, `${medianMs} ms`);
    const { groups } = await bare.admin.listGroups();
    assert.deepEqual(
      groups.filter(({ groupId }) => groupId.includes("never")),
      [],
    );
  });

  test("Node warns of nothing, and an idle client wakes nobody", async () => {
    // kafkajs's own timers ran every millisecond, on each connection that had been used.
    const began = performance.eventLoopUtilization();
    await delay(300);
    const { utilization } = performance.eventLoopUtilization(began);
    assert.deepEqual(warnings, []);
    assert.ok(utilization < 0.2, `the process is busy for ${Math.round(100 * utilization)} % of its time`);
  });

  test("a topic of a hundred partitions that is gone does not hold up others", async () => {
    await eventLog.ensureTopics([
      { topic: "gone", partitions: 100 },
      { topic: "stays", partitions: 1 },
    ]);
    assert.equal((await eventLog.bounds({ topic: "gone", partition: 99 })).next, 0n);
    await deleteTopic(bare, bare.topicName("gone"));
    await until("the broker has let go of it", async () => {
      const outcome = await eventLog
        .bounds({ topic: "gone", partition: 99 })
        .catch((error: unknown) => error);
      return (outcome as { code?: string }).code === "log-partition-missing";
    });
    await assert.rejects(appendKeys("gone", ["a"]), { code: "log-partition-missing" });
    await appendKeys("stays", ["a"]);
    assert.equal((await eventLog.bounds(partition("stays"))).next, 1n);
    // kafkajs's metadata of a new topic fails together with that of the one that is gone.
    await eventLog.ensureTopics([{ topic: "new", partitions: 1 }]);
  });
});

/** A Kafka record is visible soon after it is sent: what can be late is the sending. */
function slowAppender(appender: Appender, maxDelayMs: number): Appender {
  return {
    async append(records) {
      await delay(Math.random() * maxDelayMs);
      await appender.append(records);
    },
    close: () => appender.close(),
  };
}

async function deleteTopic({ admin }: KafkaConnection, name: string): Promise<void> {
  await admin.deleteTopics({ topics: [name] });
  await until("the topic has gone", async () => !(await admin.listTopics()).includes(name));
}

/**
 * Cuts the newest records off as a restore does: what is older comes back, with the append times it had, into a topic
 * of the same name. Kafka itself cannot shorten a log at its end.
 */
async function restoreOldBackup(
  eventLog: EventLog,
  connection: KafkaConnection,
  topic: string,
  nextOffset: bigint,
): Promise<void> {
  const { admin } = connection;
  const name = connection.topicName(topic);
  const { topics } = await admin.fetchTopicMetadata({ topics: [name] });
  const partitions = topics[0]!.partitions.length;
  const kept = await Promise.all(
    Array.from({ length: partitions }, (_, partition) =>
      eventLog.read({ topic, partition }, 0n, Number(nextOffset)),
    ),
  );
  await deleteTopic(connection, name);
  const settings = (timestampType: string) => [{ name: "message.timestamp.type", value: timestampType }];
  await admin.createTopics({
    topics: [{ topic: name, numPartitions: partitions, configEntries: settings("CreateTime") }],
    // A broker may not have heard of the topic when it is asked for leaders.
    waitForLeaders: false,
  });
  await until("the topic is served", () =>
    admin.fetchTopicMetadata({ topics: [name] }).then(
      () => true,
      () => false,
    ),
  );
  const { kafka } = connection.newClient(0, { retries: 5 });
  const producer = kafka.producer({
    createPartitioner:
      () =>
      ({ message }) =>
        message.partition!,
  });
  await producer.connect();
  for (const [partition, records] of kept.entries()) {
    const messages = records.map((record) => ({
      ...toMessage({ topic, partition, ...record }),
      timestamp: String(record.appendTimeMs),
    }));
    await producer.send({ topic: name, acks: -1, compression: kafkajs.CompressionTypes.ZSTD, messages });
  }
  await producer.disconnect();
  // What is stored keeps its times.
  await admin.alterConfigs({
    validateOnly: false,
    resources: [{ type: kafkajs.ConfigResourceTypes.TOPIC, name, configEntries: settings("LogAppendTime") }],
  });
}

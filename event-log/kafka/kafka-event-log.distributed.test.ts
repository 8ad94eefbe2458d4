import { type ChildProcess, fork } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { setTimeout as delay } from "node:timers/promises";
import kafkajs from "kafkajs";
import pino from "pino";
import { until } from "../../tests/support/until.ts";
import { type ContractSubject, eventLogContract } from "../contract-suite.ts";
import type { Appender, EventLog } from "../event-log.ts";
import { KafkaConnection } from "./kafka-connection.ts";
import { KafkaEventLog } from "./kafka-event-log.ts";
import { toMessage } from "./kafka-records.ts";

const SESSION_TIMEOUT_MS = 6_000;
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
  const bare = await KafkaConnection.open(
    { ...options, connectTimeoutMs: 2_000, requestTimeoutMs: 10_000 },
    { log },
  );
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
      await main.close();
      const topics = (await bare.admin.listTopics()).filter((name) => name.startsWith(options.namespace));
      await bare.admin.deleteTopics({ topics });
      await bare.close();
      for (const child of children) child.kill("SIGKILL");
    },
  };
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
    waitForLeaders: true,
  });
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

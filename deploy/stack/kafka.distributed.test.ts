import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { Kafka, logLevel } from "kafkajs";
import type { Admin } from "kafkajs";
import { until } from "../../tests/support/until.ts";
import { startKafka } from "./kafka.ts";
import type { KafkaCluster } from "./kafka.ts";
import { serversOn } from "./processes.ts";

const folder = await mkdtemp(join(tmpdir(), "gridroot-test-kafka-"));
after(() => rm(folder, { recursive: true, force: true }));

function clientOf(cluster: KafkaCluster): Kafka {
  // As patient as the election of a leader takes, at least once a second.
  const retry = { initialRetryTime: 200, maxRetryTime: 1_000, retries: 25 };
  return new Kafka({ brokers: cluster.bootstrap, logLevel: logLevel.NOTHING, retry });
}

async function withAdmin<T>(cluster: KafkaCluster, body: (admin: Admin) => Promise<T>): Promise<T> {
  const admin = clientOf(cluster).admin();
  await admin.connect();
  try {
    return await body(admin);
  } finally {
    await admin.disconnect();
  }
}

/** Acknowledged by all replicas in sync. */
async function append(cluster: KafkaCluster, topic: string, value: string): Promise<void> {
  const producer = clientOf(cluster).producer({ allowAutoTopicCreation: false });
  await producer.connect();
  try {
    await producer.send({ topic, acks: -1, messages: [{ value, partition: 0 }] });
  } finally {
    await producer.disconnect();
  }
}

async function endOffset(cluster: KafkaCluster, topic: string): Promise<string | undefined> {
  return withAdmin(cluster, async (admin) => (await admin.fetchTopicOffsets(topic))[0]?.high);
}

test("a broker makes no topic unasked, keeps records over a kill and a start, and leaves no process", async () => {
  const cluster = await startKafka({ dataDir: join(folder, "one"), brokers: 1 });
  const [broker] = cluster.brokers;
  assert.ok(broker);
  try {
    await withAdmin(cluster, async (admin) => {
      await assert.rejects(admin.fetchTopicMetadata({ topics: ["unasked"] }), /does not host this topic/);
      assert.deepEqual(await admin.listTopics(), []);
      await admin.createTopics({ topics: [{ topic: "kept" }] });
    });
    await append(cluster, "kept", "a");
    await broker.kill();
    assert.deepEqual(serversOn([`${folder}/one/`]), []);
    await broker.start();
    assert.equal(await endOffset(cluster, "kept"), "1");
    await broker.stop();
    await broker.start();
    assert.equal(await endOffset(cluster, "kept"), "1");
  } finally {
    await cluster.stop();
  }
  assert.deepEqual(serversOn([`${folder}/one/`]), []);
});

test("three brokers take acknowledged records while one is dead, and take it back in", async () => {
  const cluster = await startKafka({ dataDir: join(folder, "three"), brokers: 3 });
  try {
    await withAdmin(cluster, (admin) =>
      admin.createTopics({
        topics: [{ topic: "replicated", replicaAssignment: [{ partition: 0, replicas: [2, 1, 3] }] }],
      }),
    );
    await append(cluster, "replicated", "a");
    // The leader of the partition.
    const victim = cluster.brokers[1];
    assert.ok(victim);
    await victim.kill();
    await append(cluster, "replicated", "b");
    assert.equal(await endOffset(cluster, "replicated"), "2");
    await victim.start();
    await until("the broker is in sync again", async () => {
      const { topics } = await withAdmin(cluster, (admin) =>
        admin.fetchTopicMetadata({ topics: ["replicated"] }),
      );
      return topics[0]?.partitions[0]?.isr.length === 3;
    });
  } finally {
    await cluster.stop();
  }
  assert.deepEqual(serversOn([`${folder}/three/`]), []);
});

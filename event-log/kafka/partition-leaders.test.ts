import assert from "node:assert/strict";
import { test } from "node:test";
import type { KafkaConnection } from "./kafka-connection.ts";
import { PartitionLeaders } from "./partition-leaders.ts";

const TOPIC = { topic: "readings", partition: 0 };
const REPLICAS = [1, 2, 3];

/** Whom each of the three brokers takes for the leader; `undefined` where it does not answer. */
type Views = Readonly<Record<number, number | undefined>>;

/** A connection to brokers that say this; each new client asks the next of `views`, the last again and again. */
function brokersSaying(...views: readonly { readonly asked: number; readonly leaders: Views }[]) {
  let opened = 0;
  const newClient = () => {
    const { asked, leaders } = views[Math.min(opened++, views.length - 1)]!;
    const metadataOf = (nodeId: number) => {
      const leader = leaders[nodeId];
      if (leader === undefined) throw new Error(`broker ${nodeId} does not answer`);
      return [{ partitionId: 0, leader, replicas: REPLICAS }];
    };
    const cluster = {
      connect: () => Promise.resolve(),
      addTargetTopic: () => Promise.resolve(),
      refreshMetadataIfNecessary: () => Promise.resolve(),
      findTopicPartitionMetadata: () => metadataOf(asked),
      findBroker: ({ nodeId }: { nodeId: string }) =>
        Promise.resolve({
          metadata: () =>
            Promise.resolve().then(() => ({
              topicMetadata: [{ partitionMetadata: metadataOf(Number(nodeId)) }],
            })),
        }),
    };
    return {
      cut: () => {},
      kafka: {
        consumer: ({
          partitionAssigners: [assigner],
        }: {
          partitionAssigners: ((config: object) => void)[];
        }) => assigner!({ cluster }),
      },
    };
  };
  const connection = { newClient, topicName: (topic: string) => topic } as unknown as KafkaConnection;
  return new PartitionLeaders({ minInsyncReplicas: 2, timeoutMs: 400 }, { connection });
}

/** How often a leader was worked with. */
function counted(): { work: () => Promise<string>; times: number } {
  const count = {
    times: 0,
    work: () => {
      count.times += 1;
      return Promise.resolve("worked");
    },
  };
  return count;
}

test("a leader that the other replicas do not name is not worked with, and the one that they name is", async () => {
  const count = counted();
  const asleep = { asked: 1, leaders: { 1: 1, 2: 2, 3: 2 } };
  await assert.rejects(brokersSaying(asleep).withLeader(TOPIC, count.work), { code: "log-unavailable" });
  assert.equal(count.times, 0);
  const leaders = brokersSaying(asleep, { asked: 2, leaders: { 1: 1, 2: 2, 3: 2 } });
  assert.equal(await leaders.withLeader(TOPIC, count.work), "worked");
  assert.equal(count.times, 1);
});

test("a leader is believed as soon as one other replica names it, whatever the last one does", async () => {
  for (const last of [undefined, 1]) {
    const leaders = brokersSaying({ asked: 3, leaders: { 1: last, 2: 3, 3: 3 } });
    assert.equal(await leaders.withLeader(TOPIC, counted().work), "worked");
  }
});

import type { Logger } from "pino";
import { KafkaConnection, type KafkaConnectionOptions } from "./kafka-connection.ts";

/**
 * Deletes every topic and group of a namespace, for those that were of use once: a demonstration's, a test's. What
 * is not there any more is no error; a group that still has members stays.
 */
export async function deleteKafkaNamespace(
  options: KafkaConnectionOptions,
  dependencies: { log: Logger },
): Promise<void> {
  const connection = await KafkaConnection.open(options, dependencies);
  const { admin } = connection;
  const prefix = connection.topicName("");
  try {
    const topics = (await admin.listTopics()).filter((name) => name.startsWith(prefix));
    if (topics.length > 0) await admin.deleteTopics({ topics });
    const { groups } = await admin.listGroups();
    const groupIds = groups.map(({ groupId }) => groupId).filter((name) => name.startsWith(prefix));
    if (groupIds.length > 0) await admin.deleteGroups(groupIds);
  } finally {
    await connection.close();
  }
}

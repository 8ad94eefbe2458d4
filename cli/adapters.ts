import { deleteKafkaNamespace } from "../event-log/kafka/delete-namespace.ts";
import type { KafkaConnectionOptions } from "../event-log/kafka/kafka-connection.ts";
import { KafkaEventLog, type KafkaEventLogOptions } from "../event-log/kafka/kafka-event-log.ts";
import { PostgresEventLog } from "../event-log/postgres/postgres-event-log.ts";
import { backendsOf, directPostgresUrl, kafkaBrokers } from "../service/backends.ts";
import type { Settings } from "../service/configuration.ts";
import { PostgresTimeSeries } from "../time-series/postgres/postgres-time-series.ts";
import type { Adapters } from "./context.ts";

const KAFKA_CONNECT_WITHIN_MS = 5_000;
const KAFKA_ANSWER_WITHIN_MS = 10_000;

/** The adapters of each port, by the backends that the settings choose. */
export const ADAPTERS: Adapters = {
  openEventLog: (settings, log) =>
    backendsOf(settings).eventLog === "kafka"
      ? KafkaEventLog.open(kafkaLogOptions(settings), { log })
      : PostgresEventLog.open({ connectionString: directPostgresUrl(settings) }, { log }),
  openTimeSeries: (settings, log) =>
    PostgresTimeSeries.open({ connectionString: settings.postgresUrl }, { log }),
  async discardNamespace(settings, log) {
    if (backendsOf(settings).eventLog === "kafka")
      await deleteKafkaNamespace(kafkaOptions(settings), { log });
  },
};

function kafkaLogOptions(settings: Settings): KafkaEventLogOptions {
  const { kafkaReplication, kafkaMinInsyncReplicas, kafkaSessionTimeoutMs } = settings;
  return {
    ...kafkaOptions(settings),
    replication: kafkaReplication,
    minInsyncReplicas: kafkaMinInsyncReplicas,
    sessionTimeoutMs: kafkaSessionTimeoutMs,
  };
}

function kafkaOptions(settings: Settings): KafkaConnectionOptions {
  const { kafkaSaslMechanism: mechanism, kafkaUsername: username, kafkaPassword: password } = settings;
  return {
    brokers: kafkaBrokers(settings),
    namespace: settings.namespace,
    tls: settings.kafkaTls === "on",
    ...(mechanism === "none" ? {} : { sasl: { mechanism, username, password } }),
    connectTimeoutMs: KAFKA_CONNECT_WITHIN_MS,
    requestTimeoutMs: KAFKA_ANSWER_WITHIN_MS,
  };
}

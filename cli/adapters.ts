import { deleteKafkaNamespace } from "../event-log/kafka/delete-namespace.ts";
import type { KafkaConnectionOptions } from "../event-log/kafka/kafka-connection.ts";
import { KafkaEventLog, type KafkaEventLogOptions } from "../event-log/kafka/kafka-event-log.ts";
import { PostgresEventLog } from "../event-log/postgres/postgres-event-log.ts";
import { backendsOf, directPostgresUrl, kafkaBrokers } from "../service/backends.ts";
import { deleteRedisNamespace } from "../service/redis.ts";
import type { Settings } from "../service/configuration.ts";
import {
  deleteInfluxNamespace,
  type InfluxConnectionOptions,
  InfluxTimeSeries,
} from "../time-series/influxdb/influx-time-series.ts";
import { PostgresTimeSeries } from "../time-series/postgres/postgres-time-series.ts";
import type { Adapters } from "./context.ts";

const KAFKA_CONNECT_WITHIN_MS = 5_000;
const KAFKA_ANSWER_WITHIN_MS = 10_000;

/** The adapters of each port, by the backends that the settings choose. */
export const ADAPTERS: Adapters = {
  openEventLog: (settings, { log, metrics }) =>
    backendsOf(settings).eventLog === "kafka"
      ? KafkaEventLog.open(kafkaLogOptions(settings), { log })
      : PostgresEventLog.open({ connectionString: directPostgresUrl(settings) }, { log, metrics }),
  openTimeSeries: (settings, dependencies) =>
    backendsOf(settings).timeSeries === "influxdb"
      ? InfluxTimeSeries.open({ ...influxOptions(settings), marksUrl: settings.postgresUrl }, dependencies)
      : PostgresTimeSeries.open({ connectionString: settings.postgresUrl }, dependencies),
  async discardNamespace(settings, log) {
    const { namespace, redisUrl } = settings;
    const { eventLog, timeSeries, jobs } = backendsOf(settings);
    if (eventLog === "kafka") await deleteKafkaNamespace(kafkaOptions(settings), { log });
    if (timeSeries === "influxdb") await deleteInfluxNamespace(influxOptions(settings));
    if (jobs === "redis") await deleteRedisNamespace({ url: redisUrl, namespace });
  },
};

function influxOptions(settings: Settings): InfluxConnectionOptions {
  const { influxUrl: url, influxOrg: org, influxToken: token, namespace } = settings;
  return { url, org, token, namespace };
}

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

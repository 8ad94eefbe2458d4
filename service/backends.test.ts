import assert from "node:assert/strict";
import { test } from "node:test";
import { backendsOf, directPostgresUrl, kafkaBrokers, requireBackendSettings } from "./backends.ts";
import { SETTINGS, SETTINGS_PREFIX } from "./configuration.ts";
import { readSettings } from "./settings.ts";

const read = (environment: Record<string, string>) => readSettings(SETTINGS, environment, SETTINGS_PREFIX);
const distributed = {
  GRIDROOT_PROFILE: "distributed",
  GRIDROOT_POSTGRES_URL: "postgres://ledger.example/gridroot",
  GRIDROOT_KAFKA_BROKERS: "one.example:9092,two.example:9092",
  GRIDROOT_INFLUX_URL: "http://series.example:8086",
  GRIDROOT_INFLUX_TOKEN: "token",
  GRIDROOT_REDIS_URL: "redis://jobs.example",
};

test("the embedded profile needs no setting and keeps everything in PostgreSQL", () => {
  const settings = read({});
  requireBackendSettings(settings);
  assert.deepEqual(backendsOf(settings), { eventLog: "postgres", timeSeries: "postgres", jobs: "postgres" });
});

test("the distributed profile takes Kafka, InfluxDB and Redis, and each backend can be set singly", () => {
  const settings = read(distributed);
  requireBackendSettings(settings);
  assert.deepEqual(backendsOf(settings), { eventLog: "kafka", timeSeries: "influxdb", jobs: "redis" });
  assert.deepEqual(kafkaBrokers(settings), ["one.example:9092", "two.example:9092"]);
  assert.deepEqual(backendsOf(read({ GRIDROOT_JOBS: "redis" })), {
    eventLog: "postgres",
    timeSeries: "postgres",
    jobs: "redis",
  });
  assert.equal(backendsOf({ ...settings, timeSeries: "postgres" }).timeSeries, "postgres");
});

test("what needs a session connects past the pooler, where one is named", () => {
  const GRIDROOT_POSTGRES_DIRECT_URL = "postgres://server.example/gridroot";
  assert.equal(directPostgresUrl(read(distributed)), "postgres://ledger.example/gridroot");
  assert.equal(
    directPostgresUrl(read({ ...distributed, GRIDROOT_POSTGRES_DIRECT_URL })),
    GRIDROOT_POSTGRES_DIRECT_URL,
  );
  assert.throws(() => requireBackendSettings(read({ GRIDROOT_POSTGRES_DIRECT_URL })), {
    code: "settings-invalid",
    message: /^GRIDROOT_POSTGRES_URL: /,
  });
});

test("every address and secret that a chosen backend needs is named at once where it is missing", () => {
  const missing = (environment: Record<string, string>) => {
    try {
      requireBackendSettings(read(environment));
    } catch (error) {
      return (error as Error).message.split("\n").map((line) => line.split(":")[0]);
    }
    return [];
  };
  assert.deepEqual(missing({ GRIDROOT_PROFILE: "distributed" }), [
    "GRIDROOT_KAFKA_BROKERS",
    "GRIDROOT_INFLUX_URL",
    "GRIDROOT_INFLUX_TOKEN",
    "GRIDROOT_REDIS_URL",
    "GRIDROOT_POSTGRES_URL",
  ]);
  assert.deepEqual(missing({ ...distributed, GRIDROOT_KAFKA_BROKERS: "one.example" }), [
    "GRIDROOT_KAFKA_BROKERS",
  ]);
  assert.deepEqual(missing({ ...distributed, GRIDROOT_KAFKA_SASL_MECHANISM: "plain" }), [
    "GRIDROOT_KAFKA_USERNAME",
    "GRIDROOT_KAFKA_PASSWORD",
  ]);
  assert.deepEqual(missing({ ...distributed, GRIDROOT_KAFKA_REPLICATION: "1" }), [
    "GRIDROOT_KAFKA_MIN_INSYNC_REPLICAS",
  ]);
  assert.deepEqual(missing({ GRIDROOT_NAMESPACE: "No Spaces" }), ["GRIDROOT_NAMESPACE"]);
});

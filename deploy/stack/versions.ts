/**
 * Versions of everything that the stack runs; the only place that says them, but for `influxdb/go.mod`, which has to
 * (a test compares the two). Those of Debian's packages are the first numbers of what Debian 12 has.
 */
export const VERSIONS = {
  kafka: "4.1.0",
  /** As Kafka brings it. */
  log4j: "2.24.3",
  influxdb: "2.7.12",
  redis: "7.0",
  postgres: "15",
  pgbouncer: "1.18",
  /** Plugin that copies Kafka's jars. */
  mavenDependencyPlugin: "3.8.1",
} as const;

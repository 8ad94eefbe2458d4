import { SETTINGS, type Settings } from "./configuration.ts";
import { GridrootError } from "./errors.ts";

/** What keeps the event log, the time series and the jobs of a process. The ledger is always PostgreSQL. */
export interface Backends {
  readonly eventLog: "postgres" | "kafka";
  readonly timeSeries: "postgres" | "influxdb";
  readonly jobs: "postgres" | "redis";
}

const OF_PROFILE: Readonly<Record<Settings["profile"], Backends>> = {
  embedded: { eventLog: "postgres", timeSeries: "postgres", jobs: "postgres" },
  distributed: { eventLog: "kafka", timeSeries: "influxdb", jobs: "redis" },
};

/** The profile's backends, but for those that are set singly. */
export function backendsOf(
  settings: Pick<Settings, "profile" | "eventLog" | "timeSeries" | "jobs">,
): Backends {
  const profile = OF_PROFILE[settings.profile];
  return {
    eventLog: settings.eventLog === "profile" ? profile.eventLog : settings.eventLog,
    timeSeries: settings.timeSeries === "profile" ? profile.timeSeries : settings.timeSeries,
    jobs: settings.jobs === "profile" ? profile.jobs : settings.jobs,
  };
}

/**
 * The PostgreSQL server itself, past a pooler: for whatever needs a session of its own, which are LISTEN, jobs and the
 * log on PostgreSQL, and the lock of `start`.
 */
export function directPostgresUrl(settings: Pick<Settings, "postgresUrl" | "postgresDirectUrl">): string {
  return settings.postgresDirectUrl === "" ? settings.postgresUrl : settings.postgresDirectUrl;
}

/** The broker list as host:port strings. */
export function kafkaBrokers(settings: Pick<Settings, "kafkaBrokers">): string[] {
  return settings.kafkaBrokers.split(",").filter((broker) => broker !== "");
}

/**
 * Where the backends that are chosen are reached must be set. Throws one `settings-invalid` that names every setting
 * that is missing or wrong.
 */
export function requireBackendSettings(settings: Settings): void {
  const { eventLog, timeSeries, jobs } = backendsOf(settings);
  const faults: string[] = [];
  const require = (key: keyof typeof SETTINGS, who: string) => {
    if (settings[key] === "") faults.push(`${SETTINGS[key].name}: ${who} needs it`);
  };
  if (eventLog === "kafka") {
    require("kafkaBrokers", "the event log on Kafka");
    if (!kafkaBrokers(settings).every((broker) => /^[^\s:]+:\d+$/.test(broker)))
      faults.push(`${SETTINGS.kafkaBrokers.name}: expected host:port, separated by commas`);
    if (settings.kafkaMinInsyncReplicas > settings.kafkaReplication)
      faults.push(
        `${SETTINGS.kafkaMinInsyncReplicas.name}: more replicas than ${SETTINGS.kafkaReplication.name} keeps`,
      );
    if (settings.kafkaSaslMechanism !== "none") {
      require("kafkaUsername", "the SASL mechanism");
      require("kafkaPassword", "the SASL mechanism");
    }
  }
  if (timeSeries === "influxdb") {
    require("influxUrl", "the time series on InfluxDB");
    require("influxToken", "the time series on InfluxDB");
  }
  if (jobs === "redis") require("redisUrl", "jobs on Redis");
  if (settings.profile === "distributed") require("postgresUrl", "the distributed profile");
  for (const key of ["postgresDirectUrl", "postgresReplicaUrl"] as const)
    if (settings[key] !== "")
      require("postgresUrl", `${SETTINGS[key].name}, which is another way to its data,`);
  if (!/^[a-z0-9][a-z0-9-]{0,62}$/.test(settings.namespace))
    faults.push(`${SETTINGS.namespace.name}: small letters, digits and hyphens, 63 at the most`);
  if (faults.length > 0) throw new GridrootError("settings-invalid", faults.join("\n"));
}

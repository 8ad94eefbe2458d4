import { GridrootError } from "./errors.ts";
import { choice, integer, secret, text, url, type Values } from "./settings.ts";

const DAY_S = 86_400;

/** Every environment variable that Gridroot reads begins so. */
export const SETTINGS_PREFIX = "GRIDROOT_";

/**
 * All settings of the program. What describes a utility (regions, authorities, interval, caps) is in the grid file,
 * see service/grid.ts; what describes this machine or deployment is here.
 */
export const SETTINGS = {
  dataDir: text({
    name: "GRIDROOT_DATA_DIR",
    default: ".gridroot",
    sentence: "Folder of everything that the embedded profile keeps: database, chain journal, keys, log.",
  }),
  gridFile: text({
    name: "GRIDROOT_GRID_FILE",
    default: "",
    sentence:
      "Grid file with regions, utilities, authorities, interval and caps; empty takes the Thai example.",
  }),
  logLevel: choice({
    name: "GRIDROOT_LOG_LEVEL",
    of: ["trace", "debug", "info", "warn", "error", "silent"],
    default: "info",
    sentence: "Least level that is logged.",
  }),
  logFile: text({
    name: "GRIDROOT_LOG_FILE",
    default: "",
    sentence:
      "File to log to; empty logs to standard error, or to gridroot.log in the data folder under `start`.",
  }),

  profile: choice({
    name: "GRIDROOT_PROFILE",
    of: ["embedded", "distributed"],
    default: "embedded",
    sentence:
      "Backends: PostgreSQL for everything, or Kafka, InfluxDB and Redis beside it; each can be set singly below.",
  }),
  stackDir: text({
    name: "GRIDROOT_STACK_DIR",
    default: ".gridroot/stack",
    sentence:
      "Folder of the native stack (`npm run stack:up`); the distributed profile takes what is not set from its settings.env.",
  }),
  namespace: text({
    name: "GRIDROOT_NAMESPACE",
    default: "gridroot",
    sentence:
      "Begins the names of Kafka topics and groups, InfluxDB buckets and Redis keys; small letters, digits and hyphens.",
  }),
  eventLog: choice({
    name: "GRIDROOT_EVENT_LOG",
    of: ["profile", "postgres", "kafka"],
    default: "profile",
    sentence: "Backend of the event log; `profile` takes the profile's.",
  }),
  timeSeries: choice({
    name: "GRIDROOT_TIME_SERIES",
    of: ["profile", "postgres", "influxdb"],
    default: "profile",
    sentence: "Backend of the time series; `profile` takes the profile's.",
  }),
  jobs: choice({
    name: "GRIDROOT_JOBS",
    of: ["profile", "postgres", "redis"],
    default: "profile",
    sentence: "Backend of the jobs; `profile` takes the profile's.",
  }),

  kafkaBrokers: text({
    name: "GRIDROOT_KAFKA_BROKERS",
    default: "",
    sentence: "Kafka brokers to begin with, host:port, separated by commas.",
  }),
  kafkaReplication: integer({
    name: "GRIDROOT_KAFKA_REPLICATION",
    min: 1,
    max: 7,
    default: 3,
    sentence: "Replicas of each partition of a topic that Gridroot creates.",
  }),
  kafkaMinInsyncReplicas: integer({
    name: "GRIDROOT_KAFKA_MIN_INSYNC_REPLICAS",
    min: 1,
    max: 7,
    default: 2,
    sentence: "Replicas that must hold an append before it is acknowledged.",
  }),
  kafkaSessionTimeoutMs: integer({
    name: "GRIDROOT_KAFKA_SESSION_TIMEOUT_MS",
    min: 6_000,
    max: 1_800_000,
    default: 45_000,
    sentence: "After so long without a sign of life a process's partitions are taken over by others.",
  }),
  kafkaTls: choice({
    name: "GRIDROOT_KAFKA_TLS",
    of: ["off", "on"],
    default: "off",
    sentence: "Whether connections to Kafka are encrypted.",
  }),
  kafkaSaslMechanism: choice({
    name: "GRIDROOT_KAFKA_SASL_MECHANISM",
    of: ["none", "plain", "scram-sha-256", "scram-sha-512"],
    default: "none",
    sentence: "How Gridroot authenticates to Kafka.",
  }),
  kafkaUsername: text({
    name: "GRIDROOT_KAFKA_USERNAME",
    default: "",
    sentence: "Gridroot's name at Kafka, where a SASL mechanism is set.",
  }),
  kafkaPassword: secret({
    name: "GRIDROOT_KAFKA_PASSWORD",
    sentence: "Gridroot's password at Kafka, where a SASL mechanism is set.",
  }),

  influxUrl: url({
    name: "GRIDROOT_INFLUX_URL",
    schemes: ["http", "https"],
    default: "",
    sentence: "InfluxDB 2 server of the time series.",
  }),
  influxOrg: text({
    name: "GRIDROOT_INFLUX_ORG",
    default: "gridroot",
    sentence: "Organisation at InfluxDB in which the buckets lie.",
  }),
  influxToken: secret({
    name: "GRIDROOT_INFLUX_TOKEN",
    sentence: "Token that may read and write the buckets, and create them where they are missing.",
  }),

  redisUrl: url({
    name: "GRIDROOT_REDIS_URL",
    schemes: ["redis", "rediss"],
    default: "",
    sentence: "Redis server of the jobs; its policy must be noeviction.",
  }),

  postgresUrl: url({
    name: "GRIDROOT_POSTGRES_URL",
    schemes: ["postgres", "postgresql"],
    default: "",
    sentence:
      "PostgreSQL server of the ledger, and of log, series and jobs where they have no other; empty starts the embedded one.",
  }),
  postgresDirectUrl: url({
    name: "GRIDROOT_POSTGRES_DIRECT_URL",
    schemes: ["postgres", "postgresql"],
    default: "",
    sentence:
      "The same server without a pooler between, for LISTEN and for jobs; empty is GRIDROOT_POSTGRES_URL. Needed behind PgBouncer in transaction mode.",
  }),
  postgresReplicaUrl: url({
    name: "GRIDROOT_POSTGRES_REPLICA_URL",
    schemes: ["postgres", "postgresql"],
    default: "",
    sentence: "A read replica of the ledger for the HTTP interface; empty reads from the primary.",
  }),
  postgresReplicaLagMaxMs: integer({
    name: "GRIDROOT_POSTGRES_REPLICA_LAG_MAX_MS",
    min: 100,
    max: 3_600_000,
    default: 10_000,
    sentence: "Above this lag the HTTP interface reads from the primary.",
  }),
  postgresMaxConnections: integer({
    name: "GRIDROOT_POSTGRES_MAX_CONNECTIONS",
    min: 0,
    max: 1000,
    default: 0,
    sentence:
      "Connections in a process's pool on the ledger, or on an authority's store; 0 takes what its roles need.",
  }),
  postgresPort: integer({
    name: "GRIDROOT_POSTGRES_PORT",
    min: 0,
    max: 65_535,
    default: 0,
    sentence: "Loopback port of the embedded PostgreSQL; 0 takes a free one.",
  }),

  mqttHost: text({
    name: "GRIDROOT_MQTT_HOST",
    default: "127.0.0.1",
    sentence: "Address on which meters connect.",
  }),
  mqttPort: integer({
    name: "GRIDROOT_MQTT_PORT",
    min: 1,
    max: 65_535,
    default: 1883,
    sentence: "Port on which meters connect.",
  }),
  ingestWorkers: integer({
    name: "GRIDROOT_INGEST_WORKERS",
    min: 1,
    max: 64,
    default: 1,
    sentence: "Ingest processes that share the MQTT port.",
  }),
  ingestMaxConnections: integer({
    name: "GRIDROOT_INGEST_MAX_CONNECTIONS",
    min: 1,
    max: 1_000_000,
    default: 18_000,
    sentence: "Connections that one ingest process accepts; a process may open about 20,000 files.",
  }),
  ingestMaxInFlight: integer({
    name: "GRIDROOT_INGEST_MAX_IN_FLIGHT",
    min: 1,
    max: 1_000_000,
    default: 20_000,
    sentence: "Publishes that one ingest process holds unacknowledged; above it reading stops.",
  }),
  ingestMaxInFlightPerClient: integer({
    name: "GRIDROOT_INGEST_MAX_IN_FLIGHT_PER_CLIENT",
    min: 1,
    max: 65_535,
    default: 32,
    sentence: "Publishes of one meter that are held unacknowledged; above it its socket is not read.",
  }),
  appendMaxDelayMs: integer({
    name: "GRIDROOT_APPEND_MAX_DELAY_MS",
    min: 0,
    max: 1000,
    default: 2,
    sentence: "How long a group commit waits for more publishes.",
  }),
  appendMaxRecords: integer({
    name: "GRIDROOT_APPEND_MAX_RECORDS",
    min: 1,
    max: 100_000,
    default: 5000,
    sentence: "Publishes that one group commit holds at the most.",
  }),
  appendTimeoutMs: integer({
    name: "GRIDROOT_APPEND_TIMEOUT_MS",
    min: 100,
    max: 60_000,
    default: 5000,
    sentence:
      "When the log has not answered an append for so long, its meters are disconnected unacknowledged.",
  }),
  clockAheadMaxS: integer({
    name: "GRIDROOT_CLOCK_AHEAD_MAX_S",
    min: 0,
    max: DAY_S,
    default: 60,
    sentence: "How far a reading's time may lie ahead of ingest's clock.",
  }),
  clockBehindMaxS: integer({
    name: "GRIDROOT_CLOCK_BEHIND_MAX_S",
    min: 900,
    max: 366 * DAY_S,
    default: 30 * DAY_S,
    sentence: "How old a reading may be when it is received.",
  }),
  clockSource: choice({
    name: "GRIDROOT_CLOCK_SOURCE",
    of: ["system", "parent"],
    default: "system",
    sentence:
      "Whose clock ingest checks readings against: the machine's, or the parent process's in a demonstration.",
  }),

  partitionsPerRegion: integer({
    name: "GRIDROOT_PARTITIONS_PER_REGION",
    min: 1,
    max: 1024,
    default: 2,
    sentence: "Partitions of each region's topic in the log; fixed once the topic exists.",
  }),
  sealGraceMs: integer({
    name: "GRIDROOT_SEAL_GRACE_MS",
    min: 0,
    max: 3_600_000,
    default: 30_000,
    sentence: "How long a seal waits for meters that have not reported past the interval's end.",
  }),
  flushEveryMs: integer({
    name: "GRIDROOT_FLUSH_EVERY_MS",
    min: 100,
    max: 600_000,
    default: 30_000,
    sentence: "How often the aggregator writes meter states when no seal waits for them.",
  }),
  flushEveryRecords: integer({
    name: "GRIDROOT_FLUSH_EVERY_RECORDS",
    min: 1,
    max: 10_000_000,
    default: 200_000,
    sentence: "After how many records the aggregator writes meter states when no seal waits for them.",
  }),
  logRetentionDays: integer({
    name: "GRIDROOT_LOG_RETENTION_DAYS",
    min: 1,
    max: 36_500,
    default: 60,
    sentence: "How long consumed records stay in the log; what a consumer has not stored yet stays longer.",
  }),
  rawRetentionDays: integer({
    name: "GRIDROOT_RAW_RETENTION_DAYS",
    min: 31,
    max: 36_500,
    default: 90,
    sentence: "How long readings are kept in the series.",
  }),
  rollupRetentionDays: integer({
    name: "GRIDROOT_ROLLUP_RETENTION_DAYS",
    min: 31,
    max: 36_500,
    default: 3650,
    sentence: "How long 15 minute, hourly and daily rollups are kept.",
  }),

  httpHost: text({
    name: "GRIDROOT_HTTP_HOST",
    default: "127.0.0.1",
    sentence: "Address of the HTTP interface.",
  }),
  httpPort: integer({
    name: "GRIDROOT_HTTP_PORT",
    min: 1,
    max: 65_535,
    default: 8080,
    sentence: "Port of the HTTP interface.",
  }),
  probeHost: text({
    name: "GRIDROOT_PROBE_HOST",
    default: "127.0.0.1",
    sentence: "Address on which a process of single roles answers /health, /ready and /metrics.",
  }),
  probePort: integer({
    name: "GRIDROOT_PROBE_PORT",
    min: 0,
    max: 65_535,
    default: 0,
    sentence: "Port of it; 0 is none.",
  }),
  apiUrl: url({
    name: "GRIDROOT_API_URL",
    schemes: ["http", "https"],
    default: "",
    sentence: "Where an authority finds the HTTP interface; empty is this machine's.",
  }),

  chainRpcUrl: url({
    name: "GRIDROOT_CHAIN_RPC_URL",
    schemes: ["http", "https"],
    default: "",
    sentence: "JSON-RPC endpoint of the chain; empty starts a local chain.",
  }),
  chainHost: text({
    name: "GRIDROOT_CHAIN_HOST",
    default: "127.0.0.1",
    sentence:
      "Address of the local chain, in a process of its own; whoever reaches it can mine, so keep it among yourselves.",
  }),
  chainPort: integer({
    name: "GRIDROOT_CHAIN_PORT",
    min: 1,
    max: 65_535,
    default: 8545,
    sentence: "Port of the local chain.",
  }),
  chainId: integer({
    name: "GRIDROOT_CHAIN_ID",
    min: 1,
    max: 2 ** 48,
    default: 31_337,
    sentence: "Chain id of the chain; a settlement signed for one chain is worth nothing on another.",
  }),
  contractAddress: text({
    name: "GRIDROOT_CONTRACT_ADDRESS",
    default: "",
    sentence: "Settlement contract; empty deploys one on the local chain.",
  }),
  confirmations: integer({
    name: "GRIDROOT_CONFIRMATIONS",
    min: 0,
    max: 10_000,
    default: 4,
    sentence: "Blocks on top of a settlement's own after which it counts as final.",
  }),
  feeCeilingGwei: integer({
    name: "GRIDROOT_FEE_CEILING_GWEI",
    min: 1,
    max: 1_000_000,
    default: 500,
    sentence: "Highest fee per gas that the relayer offers.",
  }),
  relayerKey: secret({
    name: "GRIDROOT_RELAYER_KEY",
    sentence: "Private key that pays for settlements; the embedded profile makes its own.",
  }),
  authorityName: text({
    name: "GRIDROOT_AUTHORITY",
    default: "",
    sentence: "Which authority of the grid file a process with role authority is.",
  }),
  authorityKey: secret({
    name: "GRIDROOT_AUTHORITY_KEY",
    sentence: "Private key with which that authority attests; the embedded profile makes its own.",
  }),

  seed: text({
    name: "GRIDROOT_SEED",
    default: "gridroot",
    sentence: "Seed of the simulated meters.",
  }),
  simulatedMetersPerRegion: integer({
    name: "GRIDROOT_SIMULATED_METERS_PER_REGION",
    min: 0,
    max: 5000,
    default: 30,
    sentence: "Simulated meters in each region under `start`.",
  }),
  faultPoint: text({
    name: "GRIDROOT_FAULT_POINT",
    default: "",
    sentence:
      "Crash tests only: the named step, and after a colon which pass of it, at which the process kills itself.",
  }),
} as const;

/** The settings as read. */
export type Settings = Values<typeof SETTINGS>;

/**
 * What must hold between settings, and between them and the grid's interval. Throws one `settings-invalid` that names
 * the settings of every relation that does not hold.
 */
export function requireRelations(settings: Settings, intervalLengthS: number): void {
  const { rawRetentionDays, rollupRetentionDays, clockBehindMaxS, clockAheadMaxS, sealGraceMs } = settings;
  const relations: [boolean, string][] = [
    [
      rollupRetentionDays >= rawRetentionDays,
      "GRIDROOT_ROLLUP_RETENTION_DAYS: rollups are computed from readings and must be kept at least as long as they",
    ],
    [
      clockBehindMaxS <= rawRetentionDays * DAY_S,
      "GRIDROOT_CLOCK_BEHIND_MAX_S: readings older than GRIDROOT_RAW_RETENTION_DAYS would be accepted and refused later",
    ],
    [
      // A partition holds four open boundaries: within the grace readings must not reach a fifth.
      sealGraceMs / 1000 + clockAheadMaxS <= 3 * intervalLengthS,
      "GRIDROOT_SEAL_GRACE_MS: with GRIDROOT_CLOCK_AHEAD_MAX_S it may be three intervals at the most",
    ],
  ];
  const faults = relations.filter(([holds]) => !holds).map(([, fault]) => fault);
  if (faults.length > 0) throw new GridrootError("settings-invalid", faults.join("\n"));
}

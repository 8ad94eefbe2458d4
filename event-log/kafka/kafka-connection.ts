import {
  type Admin,
  type Kafka,
  type KafkaConfig,
  logLevel,
  type RetryOptions,
  type SASLOptions,
} from "kafkajs";
import type { Logger } from "pino";
import { KafkaClient } from "./kafka-client.ts";
import { clientLog } from "./kafka-client-log.ts";
import { registerZstd } from "./zstd-codec.ts";

export interface KafkaSasl {
  readonly mechanism: "plain" | "scram-sha-256" | "scram-sha-512";
  readonly username: string;
  readonly password: string;
}

export interface KafkaConnectionOptions {
  /** Brokers to begin with, host:port. */
  readonly brokers: readonly string[];
  /** Begins the names of topics and groups. */
  readonly namespace: string;
  /** TLS with the certificate authorities that Node trusts. Default false. */
  readonly tls?: boolean;
  readonly sasl?: KafkaSasl;
  /** Bound of connecting to a broker, ms. */
  readonly connectTimeoutMs: number;
  /** Bound of one request, ms; a request that waits by its nature has its waiting time besides. */
  readonly requestTimeoutMs: number;
}

/** The way to one Kafka cluster: what the parts of the log share. */
export class KafkaConnection {
  /** Consumers are made of it; whoever makes one disconnects it. */
  readonly kafka: Kafka;
  readonly admin: Admin;
  readonly clusterId: string;
  readonly #config: KafkaConfig;
  readonly #namespace: string;
  readonly #client: KafkaClient;

  private constructor(
    config: KafkaConfig,
    namespace: string,
    dependencies: { client: KafkaClient; admin: Admin; clusterId: string },
  ) {
    this.#config = config;
    this.#namespace = namespace;
    this.#client = dependencies.client;
    this.kafka = dependencies.client.kafka;
    this.admin = dependencies.admin;
    this.clusterId = dependencies.clusterId;
  }

  /** Connects the admin client and reads the cluster's id. */
  static async open(
    options: KafkaConnectionOptions,
    dependencies: { log: Logger },
  ): Promise<KafkaConnection> {
    registerZstd();
    const config = configOf(options, dependencies.log);
    const client = new KafkaClient(config);
    const admin = client.kafka.admin();
    try {
      await admin.connect();
      const { clusterId } = await admin.describeCluster();
      return new KafkaConnection(config, options.namespace, { client, admin, clusterId });
    } catch (cause) {
      client.cut();
      throw cause;
    }
  }

  /**
   * A client with connections of its own, to be cut by the caller. Connects to the given broker of the list first
   * (modulo its length), and tries again as `retry` says.
   */
  newClient(firstBroker: number, retry: RetryOptions): KafkaClient {
    const brokers = this.#config.brokers as string[];
    const at = firstBroker % brokers.length;
    return new KafkaClient({
      ...this.#config,
      brokers: [...brokers.slice(at), ...brokers.slice(0, at)],
      retry,
    });
  }

  /** The name of a topic in the cluster. */
  topicName(topic: string): string {
    return `${this.#namespace}.${topic}`;
  }

  /** The topic of a name in the cluster, which must be one of this namespace. */
  topicOf(name: string): string {
    return name.slice(this.#namespace.length + 1);
  }

  /** The name of a group in the cluster. */
  groupName(group: string): string {
    return `${this.#namespace}.${group}`;
  }

  /** Ends the connections of `admin` and of whatever was made of `kafka`. */
  async close(): Promise<void> {
    // With a broker that hangs, kafkajs would wait for its answers.
    const cut = setTimeout(() => this.#client.cut(), CLOSE_MS);
    await this.admin.disconnect().catch(() => {});
    clearTimeout(cut);
    this.#client.cut();
  }
}

/** Time that closing waits for answers of brokers, ms. */
const CLOSE_MS = 1_000;

function configOf(options: KafkaConnectionOptions, log: Logger): KafkaConfig {
  const { brokers, tls, sasl, connectTimeoutMs, requestTimeoutMs } = options;
  return {
    clientId: "gridroot",
    brokers: [...brokers],
    connectionTimeout: connectTimeoutMs,
    requestTimeout: requestTimeoutMs,
    ...(tls === true ? { ssl: true } : {}),
    ...(sasl === undefined ? {} : { sasl: sasl as SASLOptions }),
    logLevel: logLevel.INFO,
    logCreator: clientLog(log),
  };
}

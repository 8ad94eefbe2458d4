import { setTimeout as delay } from "node:timers/promises";
import { CompressionTypes, type Producer, type RecordMetadata } from "kafkajs";
import type { Logger } from "pino";
import { GridrootError, invariant } from "../../service/errors.ts";
import type { KafkaClient } from "./kafka-client.ts";
import type { KafkaConnection } from "./kafka-connection.ts";
import { errorTypes } from "./kafka-errors.ts";
import { toMessage } from "./kafka-records.ts";
import { partitionMissing } from "./partition-leaders.ts";
import type { ProduceRequest } from "./produce-requests.ts";

/** kafkajs tries nothing again: what follows an error is a new producer with fresh metadata. */
const NO_RETRY = { retries: 0 };

/** Pause before a request is sent again, ms; it doubles up to the second figure. */
const PAUSE_MS = [20, 500] as const;

/** Time for connecting, after which another broker of the list is tried, with twice the time, ms. */
const CONNECT_MS = 1_500;

/** Time that closing waits for the brokers, ms. */
const CLOSE_MS = 1_000;

interface OpenProducer {
  readonly client: KafkaClient;
  readonly producer: Producer;
}

/**
 * One producer with one request outstanding, so that the order of requests is the order in the log.
 *
 * It is not idempotent. Brokers recognise a repeat only within one producer's life, and here an error ends that life:
 * kafkajs gives the sequence number of a failed request to the next one, so that a broker may take a new request for
 * a repeat and drop it, and begins again with 0 after 2^31 records of a partition. A request whose outcome is unknown
 * is sent again by a new producer, and readers recognise the repeat by the reading's identity.
 */
export class ProducerLane {
  readonly #connection: KafkaConnection;
  readonly #log: Logger;
  #open: Promise<OpenProducer> | undefined;
  #opened: number;

  /** `number` of the lane: lanes begin with different brokers. */
  constructor(number: number, dependencies: { connection: KafkaConnection; log: Logger }) {
    this.#opened = number;
    this.#connection = dependencies.connection;
    this.#log = dependencies.log;
  }

  /**
   * Sends requests one after another, each again until it is confirmed.
   *
   * @param deadline on the clock of `performance.now()`; rejects soon after it with the last error.
   * @throws GridrootError `log-partition-missing`, `record-too-large`.
   */
  async send(requests: readonly ProduceRequest[], deadline: number): Promise<void> {
    for (const request of requests) await this.#sendSurely(request, deadline);
  }

  async close(): Promise<void> {
    const open = await this.#open?.catch(() => undefined);
    this.#open = undefined;
    if (open === undefined) return;
    await within(CLOSE_MS, open.producer.disconnect()).catch(() => {});
    open.client.cut();
  }

  async #sendSurely(request: ProduceRequest, deadline: number): Promise<void> {
    let misses = 0;
    let connectMs = CONNECT_MS;
    for (let pauseMs: number = PAUSE_MS[0]; ; pauseMs = Math.min(2 * pauseMs, PAUSE_MS[1])) {
      try {
        await this.#sendOnce(request, connectMs, deadline);
        return;
      } catch (cause) {
        this.#discard();
        connectMs *= 2;
        // Fresh metadata says it a second time: the partition is not one that was made a moment ago.
        if (isMissing(cause)) misses += 1;
        if (misses > 1) {
          throw new GridrootError("log-partition-missing", "append to a partition that does not exist", {
            cause,
          });
        }
        if (errorTypes(cause).has("MESSAGE_TOO_LARGE")) {
          throw new GridrootError("record-too-large", "a record exceeds the topic's max.message.bytes", {
            cause,
          });
        }
        if (performance.now() + pauseMs >= deadline) throw cause;
        this.#log.debug({ err: cause }, "append not confirmed, sent again");
        await delay(pauseMs);
      }
    }
  }

  async #sendOnce(request: ProduceRequest, connectWithinMs: number, deadline: number): Promise<void> {
    this.#open ??= this.#connect();
    const connectMs = Math.min(connectWithinMs, deadline - performance.now());
    const { producer } = await within(connectMs, this.#open);
    const answerMs = Math.ceil(deadline - performance.now());
    const confirmed = await within(
      answerMs,
      producer.sendBatch({
        acks: -1,
        timeout: Math.max(1, answerMs),
        compression: request.compressed ? CompressionTypes.ZSTD : CompressionTypes.None,
        topicMessages: [...request.byTopic].map(([topic, records]) => ({
          topic: this.#connection.topicName(topic),
          messages: records.map(toMessage),
        })),
      }),
    );
    assertConfirmed(confirmed, request);
  }

  async #connect(): Promise<OpenProducer> {
    const client = this.#connection.newClient(this.#opened, NO_RETRY);
    this.#opened += 1;
    const producer = client.kafka.producer({
      allowAutoTopicCreation: false,
      idempotent: false,
      retry: NO_RETRY,
      createPartitioner: () => givenPartition,
    });
    try {
      await producer.connect();
      return { client, producer };
    } catch (cause) {
      client.cut();
      throw cause;
    }
  }

  /** Whatever the old producer still has to send is never sent: its connections are cut first. */
  #discard(): void {
    const open = this.#open;
    this.#open = undefined;
    open
      ?.then(({ client, producer }) => {
        client.cut();
        return producer.disconnect();
      })
      .catch(() => {});
  }
}

/** kafkajs passes over records of a partition that does not exist, and calls the request a success. */
function givenPartition({
  topic,
  partitionMetadata,
  message,
}: {
  topic: string;
  partitionMetadata: readonly { partitionId: number }[];
  message: { partition?: number };
}): number {
  const partition = message.partition;
  invariant(partition !== undefined, "a record has a partition");
  if (!partitionMetadata.some(({ partitionId }) => partitionId === partition)) {
    throw partitionMissing({ topic, partition });
  }
  return partition;
}

function isMissing(error: unknown): boolean {
  const { code } = error as { code?: unknown };
  return code === "log-partition-missing" || errorTypes(error).has("UNKNOWN_TOPIC_OR_PARTITION");
}

/** The answer names every partition that was written to. */
function assertConfirmed(confirmed: readonly RecordMetadata[], request: ProduceRequest): void {
  const answered = new Set(confirmed.map(({ topicName, partition }) => `${topicName}/${partition}`));
  const wanted = new Set(
    [...request.byTopic.values()].flat().map(({ topic, partition }) => `${topic}/${partition}`),
  );
  if (answered.size !== wanted.size) {
    throw new GridrootError("append-unanswered", "a broker's answer leaves partitions out", {
      retryable: true,
    });
  }
}

async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  const { promise: timeout, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => reject(new GridrootError("append-timeout", "the brokers did not answer")),
    Math.max(0, ms),
  );
  try {
    return await Promise.race([work, timeout]);
  } finally {
    clearTimeout(timer);
    work.catch(() => {});
  }
}

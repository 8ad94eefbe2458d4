import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "pino";
import type { GroupMember, PartitionHandler, Position, TopicPartition } from "../event-log.ts";
import { PartitionWorker } from "../partition-worker.ts";
import { FetchedPartition } from "./fetched-partition.ts";
import { GroupSession, type SessionOptions } from "./group-session.ts";
import type { KafkaConnection } from "./kafka-connection.ts";
import type { FetchedMessage } from "./kafka-records.ts";
import type { PositionSource } from "./positions.ts";

export interface KafkaMemberOptions extends SessionOptions {
  readonly handler: PartitionHandler;
  /** Pause of a partition after its first failure, ms. */
  readonly retryPauseMs: number;
}

export interface KafkaMemberDependencies {
  readonly connection: KafkaConnection;
  readonly positions: PositionSource;
  readonly log: Logger;
}

/** A partition whose worker has been told to stop. */
interface Leaver {
  readonly partition: TopicPartition;
  /** The session that held it; others may have it by now when that one has ended. */
  readonly session: GroupSession | undefined;
  readonly left: Promise<void>;
}

/** Pause before joining again, ms; it doubles with each failure up to the second figure. */
const REJOIN_MS = [200, 5_000] as const;
/** About one a minute. */
const FAILURES_PER_WARNING = 12;
/** Topics that do not exist are looked for this often, ms. */
const TOPICS_MS = 3_000;
/** Time for the last hints when the member stops, ms. */
const LAST_HINTS_MS = 1_000;

/**
 * A member of a consumer group: one session after another, and one worker for each partition that the session holds.
 * A session that is lost takes its workers with it, because others may have their partitions by then; the next one
 * joins as a new member, again and again while the cluster is away.
 */
export class KafkaGroupMember implements GroupMember {
  readonly #options: KafkaMemberOptions;
  readonly #dependencies: KafkaMemberDependencies;
  readonly #log: Logger;
  readonly #workers = new Map<string, PartitionWorker<FetchedPartition>>();
  readonly #leavers = new Map<string, Leaver>();
  readonly #hints = new Map<string, { partition: TopicPartition; position: Position }>();
  readonly #stopping = new AbortController();
  #session: GroupSession | undefined;
  #sessions = 0;
  /** What the session holds. */
  #share: ReadonlyMap<string, TopicPartition> = new Map();
  /** True when partitions have been given up for which others wait. */
  #released = false;
  #writing = false;
  #failures = 0;
  #loop: Promise<void> = Promise.resolve();

  private constructor(options: KafkaMemberOptions, dependencies: KafkaMemberDependencies) {
    this.#options = options;
    this.#dependencies = dependencies;
    this.#log = dependencies.log.child({ group: options.group });
  }

  /** Begins to join the group; rejects where the cluster cannot be reached. */
  static async start(
    options: KafkaMemberOptions,
    dependencies: KafkaMemberDependencies,
  ): Promise<KafkaGroupMember> {
    const member = new KafkaGroupMember(options, dependencies);
    member.#session = await member.#openSession();
    member.#loop = member.#keepJoined();
    return member;
  }

  hint(partition: TopicPartition, position: Position): Promise<void> {
    this.#hints.set(nameOf(partition), { partition, position });
    return Promise.resolve();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#giveUpAll();
    await Promise.all([...this.#leavers.values()].map(({ left }) => left));
    await Promise.race([this.#writeHints(), delay(LAST_HINTS_MS, undefined, { ref: false })]);
    this.#session?.end("stopped");
    await this.#loop;
  }

  async #keepJoined(): Promise<void> {
    const { signal } = this.#stopping;
    for (;;) {
      if (this.#session !== undefined) await this.#serve(this.#session);
      if (signal.aborted) return;
      const pauseMs = Math.min(REJOIN_MS[0] * 2 ** Math.min(this.#failures, 10), REJOIN_MS[1]);
      await delay(pauseMs, undefined, { signal }).catch(() => {});
      if (signal.aborted) return;
      this.#failures += 1;
      try {
        this.#session = await this.#openSession();
      } catch (error) {
        const level = this.#failures % FAILURES_PER_WARNING === 1 ? "warn" : "debug";
        this.#log[level]({ err: error, failures: this.#failures }, "group not joined, trying again");
      }
      if (signal.aborted) this.#session?.end("stopped");
    }
  }

  /** Waits until a session has ended, and leaves nothing of it behind but workers that are about to stop. */
  async #serve(session: GroupSession): Promise<void> {
    const reason = await session.ended;
    this.#session = undefined;
    this.#giveUpAll();
    this.#share = new Map();
    this.#released = false;
    this.#log.debug({ reason }, "group session ended");
    await session.close();
  }

  /** Joins for those topics that exist; undefined where none does yet. */
  async #openSession(): Promise<GroupSession | undefined> {
    const missing = await this.#missingTopics(this.#options.topics);
    const topics = this.#options.topics.filter((topic) => !missing.includes(topic));
    if (missing.length > 0) this.#log.warn({ missing }, "topics of the group do not exist");
    if (topics.length === 0) return undefined;
    const session = await GroupSession.open(
      { ...this.#options, topics },
      {
        connection: this.#dependencies.connection,
        log: this.#log,
        firstBroker: this.#sessions++,
        events: {
          claims: () => this.#claims(),
          joined: (partitions) => this.#joined(partitions),
          fetched: (partition, messages) => this.#fetched(partition, messages),
          heartbeat: () => this.#heartbeat(),
          silent: () => void this.#endWhenDeleted(topics),
        },
      },
    );
    if (missing.length > 0) void this.#endWhenCreated(session, missing);
    return session;
  }

  async #missingTopics(topics: readonly string[]): Promise<readonly string[]> {
    const { admin } = this.#dependencies.connection;
    const present = new Set(await admin.listTopics());
    return topics.filter((topic) => !present.has(this.#dependencies.connection.topicName(topic)));
  }

  /** A session cannot take further topics in: it makes place for one that does. */
  async #endWhenCreated(session: GroupSession, topics: readonly string[]): Promise<void> {
    const ended = new AbortController();
    void session.ended.then(() => ended.abort());
    while (!ended.signal.aborted) {
      await delay(TOPICS_MS, undefined, { signal: ended.signal }).catch(() => {});
      const missing = await this.#missingTopics(topics).catch(() => topics);
      if (missing.length < topics.length) session.end("topics were created");
    }
  }

  /** A topic that has gone makes every request of kafkajs fail, until it crashes: the others need not wait for that. */
  async #endWhenDeleted(topics: readonly string[]): Promise<void> {
    const session = this.#session;
    const missing = await this.#missingTopics(topics).catch(() => []);
    if (missing.length > 0) session?.end("topics were deleted");
  }

  #claims(): readonly TopicPartition[] {
    const leaving = [...this.#leavers.values()].filter(({ session }) => session === this.#session);
    return [
      ...this.#share.values(),
      ...leaving.map(({ partition }) => partition).filter((partition) => !this.#share.has(nameOf(partition))),
    ];
  }

  /** Starts and stops workers until they are those of the share. */
  #joined(partitions: readonly TopicPartition[]): void {
    if (this.#stopping.signal.aborted) return;
    this.#failures = 0;
    this.#share = new Map(partitions.map((partition) => [nameOf(partition), partition]));
    for (const [name, worker] of this.#workers) {
      if (this.#share.has(name)) worker.source.rejoined();
      else this.#giveUp(name, worker);
    }
    this.#take();
  }

  /** Starts workers for what the session holds and nobody here works on. */
  #take(): void {
    const session = this.#session;
    if (session === undefined || this.#stopping.signal.aborted) return;
    const { handler, retryPauseMs } = this.#options;
    const { positions } = this.#dependencies;
    for (const [name, partition] of this.#share) {
      if (this.#workers.has(name) || this.#leavers.has(name)) continue;
      const source = new FetchedPartition(partition, { fetching: session, positions, log: this.#log });
      this.#workers.set(name, new PartitionWorker(source, { retryPauseMs }, { handler, log: this.#log }));
      this.#log.debug({ ...partition }, "partition assigned");
    }
  }

  #giveUp(name: string, worker: PartitionWorker<FetchedPartition>): void {
    const { topic, partition } = worker.source;
    const session = this.#session;
    this.#workers.delete(name);
    const left = worker.stop().then(() => this.#left(name, session));
    this.#leavers.set(name, { partition: { topic, partition }, session, left });
  }

  #giveUpAll(): void {
    for (const [name, worker] of this.#workers) this.#giveUp(name, worker);
  }

  #left(name: string, session: GroupSession | undefined): void {
    this.#leavers.delete(name);
    if (session !== undefined && session === this.#session && !this.#share.has(name)) {
      this.#released = true;
      // One joining for all that move, if they stop at about the same time; else with the next heartbeat.
      if (this.#leavers.size === 0) this.#passOn(session);
    }
    this.#take();
  }

  #passOn(session: GroupSession): void {
    if (this.#released && !this.#stopping.signal.aborted) session.rejoin();
    this.#released = false;
  }

  #fetched(partition: TopicPartition, messages: readonly FetchedMessage[]): void {
    this.#workers.get(nameOf(partition))?.source.offer(messages);
  }

  #heartbeat(): void {
    if (this.#session !== undefined) this.#passOn(this.#session);
    if (!this.#writing) void this.#writeHints();
  }

  async #writeHints(): Promise<void> {
    const hints = [...this.#hints.values()].filter(({ partition }) => this.#share.has(nameOf(partition)));
    this.#hints.clear();
    this.#writing = true;
    try {
      await this.#session?.commit(hints);
    } catch (error) {
      this.#log.debug({ err: error }, "hints not written");
    } finally {
      this.#writing = false;
    }
  }
}

function nameOf({ topic, partition }: TopicPartition): string {
  return `${topic}/${partition}`;
}

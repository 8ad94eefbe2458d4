import type { Logger } from "pino";
import type { TopicPartition } from "../event-log.ts";
import type { LogDatabase } from "./log-database.ts";

/** The channel on which appenders tell readers where to look. */
export const NEWS_CHANNEL = "gridroot_log";

/** What a notification says: partitions with new records, groups whose members changed, or to look everywhere. */
export interface News {
  readonly partitions: readonly TopicPartition[];
  readonly groups: readonly string[];
  readonly everywhere: boolean;
}

/** PostgreSQL refuses a payload of 8000 bytes or more. */
const MAX_PAYLOAD_BYTES = 7999;
/** Does not wait for the disk: what a lost notification costs is less. */
const ANNOUNCE = "select set_config('synchronous_commit', 'off', true), pg_notify($1, $2)";
const EVERYWHERE = "*";
const GROUP_PREFIX = "group ";

/**
 * Sends notifications, never two at a time: what is announced while one is under way goes out together with the next.
 * They are sent after the append's commit and on another connection, because a NOTIFY inside a transaction holds a
 * lock of the whole server during its commit, and without waiting for the disk, because a lost one costs a reader no
 * more than its polling interval.
 */
export class Announcer {
  readonly #db: LogDatabase;
  readonly #log: Logger;
  #waiting = new Set<string>();
  #sending: Promise<void> | undefined;

  constructor(dependencies: { db: LogDatabase; log: Logger }) {
    this.#db = dependencies.db;
    this.#log = dependencies.log;
  }

  partition(topic: string, partition: number): void {
    this.#announce(`${topic}/${partition}`);
  }

  group(group: string): void {
    this.#announce(GROUP_PREFIX + group);
  }

  /** Resolves once everything announced so far has been sent or given up. */
  async settle(): Promise<void> {
    await this.#sending;
  }

  #announce(item: string): void {
    this.#waiting.add(item);
    this.#sending ??= this.#sendAll();
  }

  async #sendAll(): Promise<void> {
    // What is announced in the same turn of the event loop goes out in one notification.
    await Promise.resolve();
    while (this.#waiting.size > 0) {
      const text = [...this.#waiting].join(",");
      this.#waiting = new Set();
      const payload = Buffer.byteLength(text) > MAX_PAYLOAD_BYTES ? EVERYWHERE : text;
      try {
        await this.#db.query(ANNOUNCE, [NEWS_CHANNEL, payload]);
      } catch (error) {
        this.#log.debug({ err: error }, "notification not sent, readers will find the records by polling");
      }
    }
    this.#sending = undefined;
  }
}

/** Reads a notification; `undefined`, which a listener reports after a reconnect, is news everywhere. */
export function parseNews(payload: string | undefined): News {
  if (payload === undefined || payload === EVERYWHERE)
    return { partitions: [], groups: [], everywhere: true };
  const partitions: TopicPartition[] = [];
  const groups: string[] = [];
  for (const item of payload.split(",")) {
    if (item.startsWith(GROUP_PREFIX)) {
      groups.push(item.slice(GROUP_PREFIX.length));
    } else {
      const slash = item.lastIndexOf("/");
      partitions.push({ topic: item.slice(0, slash), partition: Number(item.slice(slash + 1)) });
    }
  }
  return { partitions, groups, everywhere: false };
}

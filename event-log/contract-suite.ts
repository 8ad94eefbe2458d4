import { after, before, describe } from "node:test";
import type { Appender, EventLog, TopicSpec } from "./event-log.ts";
import { appendContract } from "./append-contract-suite.ts";
import { groupContract } from "./group-contract-suite.ts";

/** An adapter under test, with the faults that only it knows how to cause. */
export interface ContractSubject {
  readonly log: EventLog;
  /** The same log as another process would open it. */
  openAnother(): Promise<EventLog>;
  /**
   * An appender each of whose appends becomes visible only some random time (up to `maxDelayMs`) after it has begun,
   * as far as the backend lets one append overtake another.
   */
  openSlowAppender(maxDelayMs: number): Promise<Appender>;
  /** Joins a group in a process of its own, which consumes nothing; `kill` is SIGKILL. */
  joinElsewhere(group: string, topics: readonly string[]): Promise<{ kill(): Promise<void> }>;
  /** Deletes a topic and creates it anew, empty. */
  recreateTopic(topic: TopicSpec): Promise<void>;
  /** Loses the newest records of every partition of a topic, as the restore of an old backup does. */
  truncateTopic(topic: string, nextOffset: bigint): Promise<void>;
  /** Within this time the others take over from a member that died, ms. */
  readonly takeOverWithinMs: number;
  close(): Promise<void>;
}

/** What a test of the contract gets. */
export interface ContractContext {
  readonly subject: ContractSubject;
  readonly log: EventLog;
  /** Creates a topic that no other test uses. */
  readonly freshTopic: (partitions: number) => Promise<string>;
}

/** Runs every test that an adapter of the event log must pass. */
export function eventLogContract(name: string, open: () => Promise<ContractSubject>): void {
  describe(`event log contract: ${name}`, () => {
    let subject: ContractSubject;
    let topics = 0;
    before(async () => {
      subject = await open();
    });
    after(() => subject.close());
    const context = (): ContractContext => ({
      subject,
      log: subject.log,
      async freshTopic(partitions) {
        topics += 1;
        const topic = `contract.${topics}`;
        await subject.log.ensureTopics([{ topic, partitions }]);
        return topic;
      },
    });
    appendContract(context);
    groupContract(context);
  });
}

import type { Logger } from "pino";
import type { GroupMember, PartitionHandler, Position, TopicPartition } from "../event-log.ts";
import { PartitionWorker } from "../partition-worker.ts";
import type { Fetcher } from "./fetcher.ts";
import type { LogDatabase } from "./log-database.ts";
import type { Claim, Holdings, Membership } from "./membership.ts";
import { ClaimedPartition } from "./partition-source.ts";

export interface MemberOptions {
  readonly group: string;
  readonly leaseMs: number;
}

export interface MemberDependencies {
  readonly db: LogDatabase;
  readonly fetcher: Fetcher;
  readonly membership: Membership;
  readonly handler: PartitionHandler;
  readonly log: Logger;
  /** Called once the member has left. */
  onLeft(member: PostgresGroupMember): void;
}

/** A lease is renewed this often before it runs out. */
const RENEWALS_PER_LEASE = 3;
const RETRY_MS = 500;
/** Pause of a partition after its first failure, ms. */
const PARTITION_RETRY_MS = 100;

/** $1 group, then per partition: $2 topic, $3 partition, $4 next offset. */
const WRITE_HINTS = `
  insert into group_hint as h (group_name, topic_id, partition, next_offset)
  select $1, topic.topic_id, i.partition, i.next_offset
    from unnest($2::text[], $3::integer[], $4::bigint[]) as i (name, partition, next_offset) join topic using (name)
  on conflict (group_name, topic_id, partition)
  do update set next_offset = excluded.next_offset, hinted_at = clock_timestamp()`;

/**
 * A member of a consumer group: renews its lease, and runs one worker for each partition that it holds. When the lease
 * could not be renewed in time, it gives all partitions up by itself, because by then others may have taken them.
 */
export class PostgresGroupMember implements GroupMember {
  readonly group: string;
  readonly #options: MemberOptions;
  readonly #dependencies: MemberDependencies;
  readonly #log: Logger;
  readonly #workers = new Map<string, PartitionWorker<ClaimedPartition>>();
  readonly #leavers = new Map<string, Promise<void>>();
  readonly #hints = new Map<string, { partition: TopicPartition; position: Position }>();
  /** Claims handed back since the last renewal began, which its answer may still show. */
  readonly #handedBack = new Set<bigint>();
  #wake: () => void = () => {};
  #woken = false;
  #lapse: NodeJS.Timeout | undefined;
  #failures = 0;
  #stopped = false;
  #loop: Promise<void> | undefined;
  #stopping: Promise<void> | undefined;

  constructor(options: MemberOptions, dependencies: MemberDependencies) {
    this.group = options.group;
    this.#options = options;
    this.#dependencies = dependencies;
    this.#log = dependencies.log.child({ group: options.group });
  }

  /** Joins the group; rejects where the log cannot be reached. */
  async start(): Promise<void> {
    await this.#renew();
    this.#loop = this.#keepRenewing();
  }

  /** Looks at the group now instead of at the next renewal. */
  wake(): void {
    this.#woken = true;
    this.#wake();
  }

  hint(partition: TopicPartition, position: Position): Promise<void> {
    this.#hints.set(`${partition.topic}/${partition.partition}`, { partition, position });
    return Promise.resolve();
  }

  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async #stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#lapse);
    this.wake();
    await Promise.all([this.#giveUpAll(), this.#loop]);
    try {
      await this.#writeHints();
      await this.#dependencies.membership.leave();
    } catch (error) {
      this.#log.warn({ err: error }, "group not left in order, the lease will run out");
    }
    this.#dependencies.onLeft(this);
  }

  async #keepRenewing(): Promise<void> {
    while (!this.#stopped) {
      await this.#sleep(this.#failures === 0 ? this.#options.leaseMs / RENEWALS_PER_LEASE : RETRY_MS);
      if (this.#stopped) return;
      try {
        await this.#renew();
        await this.#writeHints();
        if (this.#failures > 0) this.#log.info({ failures: this.#failures }, "lease is renewed again");
        this.#failures = 0;
      } catch (error) {
        if (this.#failures === 0) this.#log.warn({ err: error }, "lease not renewed, trying again");
        this.#failures += 1;
      }
    }
  }

  async #renew(): Promise<void> {
    const sentAt = performance.now();
    this.#handedBack.clear();
    const holdings = await this.#dependencies.membership.renew();
    if (this.#stopped) return;
    // Counted from before the statement was sent, this ends before the server's own count does.
    const leftMs = this.#options.leaseMs - (performance.now() - sentAt);
    clearTimeout(this.#lapse);
    this.#lapse = setTimeout(() => this.#lapsed(), Math.max(0, leftMs));
    this.#follow(holdings);
  }

  /** Starts and stops workers until they are those of the claims. */
  #follow(holdings: Holdings): void {
    const kept = new Map(holdings.kept.map((claim) => [nameOf(claim), claim]));
    for (const [name, worker] of this.#workers) {
      const claim = kept.get(name);
      if (claim?.claimId !== worker.source.claim.claimId || worker.source.logId !== holdings.logId)
        this.#giveUp(worker);
    }
    for (const claim of holdings.surplus) {
      if (!this.#leavers.has(nameOf(claim))) this.#release(claim);
    }
    for (const [name, claim] of kept) {
      const busy = this.#workers.has(name) || this.#leavers.has(name) || this.#handedBack.has(claim.claimId);
      if (!busy) this.#take(claim, holdings.logId);
    }
  }

  #take(claim: Claim, logId: string): void {
    const { db, handler, fetcher } = this.#dependencies;
    const source = new ClaimedPartition(claim, logId, { db, fetcher });
    const worker = new PartitionWorker(
      source,
      { retryPauseMs: PARTITION_RETRY_MS },
      { handler, log: this.#log },
    );
    this.#workers.set(nameOf(claim), worker);
    this.#log.debug({ topic: claim.topic, partition: claim.partition }, "partition assigned");
  }

  /** Stops a worker, then hands the claim back, if it is still held. */
  #giveUp(worker: PartitionWorker<ClaimedPartition>): void {
    const name = nameOf(worker.source.claim);
    this.#workers.delete(name);
    const left = worker.stop().then(() => this.#handBack(worker.source.claim));
    this.#leavers.set(name, left);
  }

  #release(claim: Claim): void {
    this.#leavers.set(nameOf(claim), this.#handBack(claim));
  }

  async #handBack(claim: Claim): Promise<void> {
    try {
      await this.#dependencies.membership.release(claim);
      this.#handedBack.add(claim.claimId);
    } catch (error) {
      // The claim stays in the table as surplus or ours; the next renewal finds it there.
      this.#log.debug({ err: error, partition: claim.partition }, "claim not handed back yet");
    } finally {
      this.#leavers.delete(nameOf(claim));
      this.wake();
    }
  }

  #lapsed(): void {
    this.#log.warn({ partitions: this.#workers.size }, "lease ran out, giving all partitions up");
    for (const worker of this.#workers.values()) this.#giveUp(worker);
  }

  async #giveUpAll(): Promise<void> {
    const stopping = [...this.#workers.values()].map((worker) => worker.stop());
    await Promise.all([...stopping, ...this.#leavers.values()]);
    this.#workers.clear();
  }

  async #writeHints(): Promise<void> {
    const hints = [...this.#hints.values()];
    if (hints.length === 0) return;
    this.#hints.clear();
    await this.#dependencies.db.query(WRITE_HINTS, [
      this.group,
      hints.map(({ partition }) => partition.topic),
      hints.map(({ partition }) => partition.partition),
      hints.map(({ position }) => position.nextOffset),
    ]);
  }

  async #sleep(ms: number): Promise<void> {
    if (!this.#woken) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const timer = setTimeout(resolve, ms);
      this.#wake = resolve;
      await promise;
      clearTimeout(timer);
    }
    this.#woken = false;
  }
}

function nameOf(claim: Claim): string {
  return `${claim.topicId}/${claim.partition}`;
}

import type { TopicPartition } from "../event-log.ts";
import type { LogDatabase } from "./log-database.ts";
import type { Announcer } from "./news.ts";
import { shareOut } from "../share-out.ts";

export interface MembershipOptions {
  readonly group: string;
  readonly memberId: string;
  readonly topics: readonly string[];
  /** A member that has not renewed its row for so long has left, ms. */
  readonly leaseMs: number;
}

/** A partition held by this member. */
export interface Claim extends TopicPartition {
  readonly topicId: number;
  /** Differs each time the partition changes hands. */
  readonly claimId: bigint;
}

/** What this member holds, and what it shall give up. */
export interface Holdings {
  readonly logId: string;
  readonly kept: readonly Claim[];
  readonly surplus: readonly Claim[];
}

interface PartitionRow {
  readonly topic_id: number;
  readonly name: string;
  readonly partition: number;
  readonly claim_id: bigint | null;
  readonly member_id: string | null;
}

/**
 * One member's row and claims. A claim is a row with the partition as its key, so two members can never hold one
 * partition at a time; who shall take which follows from `shareOut`, which all members compute alike.
 */
export class Membership {
  readonly #options: MembershipOptions;
  readonly #db: LogDatabase;
  readonly #announcer: Announcer;

  constructor(options: MembershipOptions, dependencies: { db: LogDatabase; announcer: Announcer }) {
    this.#options = options;
    this.#db = dependencies.db;
    this.#announcer = dependencies.announcer;
  }

  /** Renews the lease, buries members that did not, and claims what this member's share lacks. */
  async renew(): Promise<Holdings> {
    await this.#renewRow();
    await this.#buryExpired();
    const { logId, members, partitions } = await this.#readGroup();
    const name = (row: PartitionRow) => `${row.name}/${String(row.partition).padStart(4, "0")}`;
    const targets = shareOut(
      partitions.map((row) => ({ name: name(row), topic: row.name, owner: row.member_id ?? undefined })),
      members,
    );
    const { memberId } = this.#options;
    const mine = partitions.filter((row) => row.member_id === memberId);
    const wanted = partitions.filter((row) => row.member_id === null && targets.get(name(row)) === memberId);
    const claimed = wanted.length === 0 ? [] : await this.#claim(wanted);
    return {
      logId,
      kept: [...mine.filter((row) => targets.get(name(row)) === memberId).map(toClaim), ...claimed],
      surplus: mine.filter((row) => targets.get(name(row)) !== memberId).map(toClaim),
    };
  }

  /** Gives a partition up, once nothing works on it any more. */
  async release(claim: Claim): Promise<void> {
    const { group } = this.#options;
    await this.#db.query(
      "delete from group_claim where group_name = $1 and topic_id = $2 and partition = $3 and claim_id = $4",
      [group, claim.topicId, claim.partition, claim.claimId],
    );
    this.#announcer.group(group);
  }

  /** Removes the member and with it its claims. */
  async leave(): Promise<void> {
    const { group, memberId } = this.#options;
    await this.#db.query("delete from group_member where group_name = $1 and member_id = $2", [
      group,
      memberId,
    ]);
    this.#announcer.group(group);
  }

  async #renewRow(): Promise<void> {
    const { group, memberId, topics, leaseMs } = this.#options;
    // xmax is zero for a row just inserted: the others have a new member to share with.
    const [row] = await this.#db.query<{ joined: boolean }>(
      `insert into group_member (group_name, member_id, topics, expires_at)
       values ($1, $2, $3, clock_timestamp() + make_interval(secs => $4 / 1000.0))
       on conflict (group_name, member_id) do update set expires_at = excluded.expires_at
       returning xmax = 0 as joined`,
      [group, memberId, topics, leaseMs],
    );
    if (row?.joined === true) this.#announcer.group(group);
  }

  async #buryExpired(): Promise<void> {
    const { group, memberId } = this.#options;
    await this.#db.query(
      `delete from group_member
        where group_name = $1 and member_id in (
          select member_id from group_member
           where group_name = $1 and member_id <> $2 and expires_at < clock_timestamp()
             for update skip locked)`,
      [group, memberId],
    );
  }

  async #readGroup() {
    const { group } = this.#options;
    const members = await this.#db.query<{ log_id: string; member_id: string; topics: string[] }>(
      "select (select log_id from identity) as log_id, member_id, topics from group_member where group_name = $1",
      [group],
    );
    const topics = [...new Set(members.flatMap((row) => row.topics))];
    const partitions = await this.#db.query<PartitionRow>(
      `select topic.topic_id, topic.name, head.partition, c.claim_id, c.member_id
         from topic join head using (topic_id)
         left join group_claim c
           on c.group_name = $1 and c.topic_id = head.topic_id and c.partition = head.partition
        where topic.name = any($2)`,
      [group, topics],
    );
    return {
      logId: members[0]?.log_id ?? "",
      members: members.map((row) => ({ id: row.member_id, topics: row.topics })),
      partitions,
    };
  }

  /** Claims what is still free. Whoever was quicker keeps it. */
  async #claim(wanted: readonly PartitionRow[]): Promise<readonly Claim[]> {
    const { group, memberId } = this.#options;
    const rows = await this.#db.query<{ topic_id: number; partition: number; claim_id: bigint }>(
      `insert into group_claim (group_name, topic_id, partition, member_id)
       select $1, i.topic_id, i.partition, $2 from unnest($3::integer[], $4::integer[]) as i (topic_id, partition)
       on conflict do nothing
       returning topic_id, partition, claim_id`,
      [group, memberId, wanted.map((row) => row.topic_id), wanted.map((row) => row.partition)],
    );
    const topics = new Map(wanted.map((row) => [row.topic_id, row.name]));
    return rows.map((row) => ({
      topic: topics.get(row.topic_id)!,
      partition: row.partition,
      topicId: row.topic_id,
      claimId: row.claim_id,
    }));
  }
}

function toClaim(row: PartitionRow): Claim {
  return { topic: row.name, partition: row.partition, topicId: row.topic_id, claimId: row.claim_id! };
}

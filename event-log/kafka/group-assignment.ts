import { AssignerProtocol, type Assigner, type Cluster } from "kafkajs";
import { shareOut } from "../share-out.ts";

/** Partitions of topics, by the topic's name in the cluster. */
export type PartitionsByTopic = Readonly<Record<string, readonly number[]>>;

/** A member as the one that shares out sees it. */
export interface JoinedMember {
  readonly id: string;
  readonly topics: readonly string[];
  /** What it works on, or has not given up yet. */
  readonly claims: PartitionsByTopic;
}

/** Part of the group's protocol: members of one group must all speak it. */
const PROTOCOL = "gridroot-claims";
const VERSION = 1;

/**
 * Says what each member shall own. A partition that somebody works on goes to nobody else before its claim is gone:
 * its member finds it missing in its share, gives it up and joins again without the claim. So a rebalance disturbs only the
 * partitions that move, and none has two owners. One that two members claim is given up by both.
 */
export function assignPartitions(
  partitions: PartitionsByTopic,
  members: readonly JoinedMember[],
): ReadonlyMap<string, PartitionsByTopic> {
  const claimants = claimantsOf(members);
  const all = Object.entries(partitions).flatMap(([topic, numbers]) =>
    numbers.map((partition) => ({ topic, partition, name: nameOf(topic, partition) })),
  );
  const targets = shareOut(
    all.map(({ topic, name }) => {
      const claimedBy = claimants.get(name) ?? [];
      return { name, topic, owner: claimedBy.length === 1 ? claimedBy[0] : undefined };
    }),
    members,
  );
  const shares = new Map(members.map(({ id }) => [id, Object.create(null) as Record<string, number[]>]));
  for (const { topic, partition, name } of all) {
    const target = targets.get(name);
    if (target === undefined || (claimants.get(name) ?? [target]).some((id) => id !== target)) continue;
    (shares.get(target)![topic] ??= []).push(partition);
  }
  return shares;
}

/**
 * The assigner of a consumer: sends `claims` with each join and, on the group's leader, shares out by everybody's.
 * The members' user data is their claims as JSON.
 */
export function claimsAssigner(cluster: Cluster, claims: () => PartitionsByTopic): Assigner {
  const { MemberMetadata, MemberAssignment } = AssignerProtocol;
  return {
    name: PROTOCOL,
    version: VERSION,
    protocol: ({ topics }) => ({
      name: PROTOCOL,
      metadata: MemberMetadata.encode({
        version: VERSION,
        topics,
        userData: Buffer.from(JSON.stringify(claims())),
      }),
    }),
    async assign({ members }) {
      const joined = members.map(({ memberId, memberMetadata }): JoinedMember => {
        const { topics, userData } = MemberMetadata.decode(memberMetadata)!;
        return { id: memberId, topics, claims: JSON.parse(userData.toString()) as PartitionsByTopic };
      });
      const topics = new Set(joined.flatMap((member) => member.topics));
      const shares = assignPartitions(await partitionsOf(cluster, [...topics]), joined);
      return [...shares].map(([memberId, assignment]) => ({
        memberId,
        memberAssignment: MemberAssignment.encode({
          version: VERSION,
          // The declared type is mutable; it is only written out.
          assignment: assignment as Record<string, number[]>,
          userData: Buffer.alloc(0),
        }),
      }));
    },
  };
}

/** The leader need not have joined every topic that others have: kafkajs knows partitions of those asked for only. */
async function partitionsOf(cluster: Cluster, topics: readonly string[]): Promise<PartitionsByTopic> {
  await cluster.addMultipleTargetTopics([...topics]);
  return Object.fromEntries(
    topics.map((topic) => [
      topic,
      cluster.findTopicPartitionMetadata(topic).map(({ partitionId }) => partitionId),
    ]),
  );
}

function claimantsOf(members: readonly JoinedMember[]): ReadonlyMap<string, readonly string[]> {
  const claimants = new Map<string, string[]>();
  for (const { id, claims } of members) {
    for (const [topic, partitions] of Object.entries(claims)) {
      for (const partition of partitions) {
        const name = nameOf(topic, partition);
        claimants.set(name, [...(claimants.get(name) ?? []), id]);
      }
    }
  }
  return claimants;
}

function nameOf(topic: string, partition: number): string {
  return `${topic}/${String(partition).padStart(4, "0")}`;
}

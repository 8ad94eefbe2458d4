/** A partition as the group's table knows it. */
export interface Shareable {
  /** Unique name, also the order of assignment. */
  readonly name: string;
  readonly topic: string;
  /** The living member that holds it now. */
  readonly owner: string | undefined;
}

export interface Candidate {
  readonly id: string;
  readonly topics: readonly string[];
}

/**
 * Says which member shall own which partition: name of partition to member id. Every member computes it by itself
 * from the same rows and comes to the same answer.
 *
 * Partitions stay where they are unless that is unfair: members that may own the same partitions differ by at most
 * one. A partition whose topic nobody has joined is left out.
 */
export function shareOut(
  partitions: readonly Shareable[],
  members: readonly Candidate[],
): ReadonlyMap<string, string> {
  const sorted = partitions.toSorted((a, b) => compare(a.name, b.name));
  const candidates = members.toSorted((a, b) => compare(a.id, b.id));
  const owned = new Map(candidates.map(({ id }) => [id, 0]));
  const target = new Map<string, string>();
  const eligible = (topic: string) => candidates.filter(({ topics }) => topics.includes(topic));
  const give = (name: string, to: string, from?: string) => {
    if (from !== undefined) owned.set(from, owned.get(from)! - 1);
    owned.set(to, owned.get(to)! + 1);
    target.set(name, to);
  };
  const leastBurdened = (topic: string) =>
    eligible(topic).reduce<Candidate | undefined>(
      (least, next) => (least === undefined || owned.get(next.id)! < owned.get(least.id)! ? next : least),
      undefined,
    );

  for (const { name, topic, owner } of sorted) {
    if (owner !== undefined && eligible(topic).some(({ id }) => id === owner)) give(name, owner);
  }
  for (const { name, topic } of sorted) {
    const least = target.has(name) ? undefined : leastBurdened(topic);
    if (least !== undefined) give(name, least.id);
  }
  // Each move lowers the sum of the squares of the shares, so this ends; taking from the most burdened moves least.
  for (;;) {
    let best: { name: string; from: string; to: string; gap: number } | undefined;
    for (const { name, topic } of sorted) {
      const from = target.get(name);
      const least = leastBurdened(topic);
      if (from === undefined || least === undefined) continue;
      const gap = owned.get(from)! - owned.get(least.id)!;
      if (gap > Math.max(1, best?.gap ?? 1)) best = { name, from, to: least.id, gap };
    }
    if (best === undefined) break;
    give(best.name, best.to, best.from);
  }
  return target;
}

function compare(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}

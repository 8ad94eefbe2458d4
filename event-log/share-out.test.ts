import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { shareOut } from "./share-out.ts";

const SEED = 20_261_121;
const MEMBERS = ["a", "b", "c", "d"];
const TOPICS = ["x", "y", "z"];

function partitions(owners: readonly (string | undefined)[], topics: readonly string[] = TOPICS) {
  return owners.map((owner, n) => {
    const topic = topics[n % topics.length]!;
    return { name: `${topic}/${n}`, topic, owner };
  });
}

const owners = fc.array(fc.constantFrom(undefined, ...MEMBERS), { maxLength: 30 });
const living = fc.subarray(MEMBERS, { minLength: 1 });

test("members of the same topics differ by at most one, and every partition has an owner", () => {
  fc.assert(
    fc.property(owners, living, (owners, ids) => {
      const all = partitions(owners);
      const target = shareOut(
        all,
        ids.map((id) => ({ id, topics: TOPICS })),
      );
      assert.equal(target.size, all.length);
      const shares = ids.map((id) => [...target.values()].filter((owner) => owner === id).length);
      assert.ok(Math.max(...shares) - Math.min(...shares) <= 1, String(shares));
    }),
    { seed: SEED },
  );
});

test("the answer is its own fixed point, and does not depend on the order of the rows", () => {
  const members = fc.array(fc.tuple(fc.constantFrom(...MEMBERS), fc.subarray(TOPICS)), { maxLength: 4 });
  fc.assert(
    fc.property(owners, members, (owners, list) => {
      const candidates = [...new Map(list)].map(([id, topics]) => ({ id, topics }));
      const all = partitions(owners);
      const target = shareOut(all, candidates);
      assert.deepEqual(new Map(shareOut(all.toReversed(), candidates.toReversed())), new Map(target));
      const settled = all.map((partition) => ({ ...partition, owner: target.get(partition.name) }));
      assert.deepEqual(new Map(shareOut(settled, candidates)), new Map(target));
      for (const { name, topic } of all) {
        const owner = candidates.find(({ id }) => id === target.get(name));
        const possible = candidates.some(({ topics }) => topics.includes(topic));
        assert.equal(owner !== undefined, possible);
        assert.ok(owner === undefined || owner.topics.includes(topic));
      }
    }),
    { seed: SEED },
  );
});

test("no more partitions move than fairness asks for", () => {
  const all = partitions(["a", "a", "a", "a", "b", "b", "b", "b"], ["x"]);
  const members = ["a", "b", "c"].map((id) => ({ id, topics: ["x"] }));
  const target = shareOut(all, members);
  const moved = all.filter(({ name, owner }) => target.get(name) !== owner);
  assert.equal(moved.length, 2);
});

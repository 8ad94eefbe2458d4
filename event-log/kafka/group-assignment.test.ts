import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { assignPartitions, type JoinedMember, type PartitionsByTopic } from "./group-assignment.ts";

const SEED = 20_261_204;
const MEMBERS = ["a", "b", "c", "d"];
const TOPICS = ["x", "y"];

/** `topic/partition` of every partition in a share. */
function namesIn(share: PartitionsByTopic): readonly string[] {
  return Object.entries(share).flatMap(([topic, numbers]) => numbers.map((number) => `${topic}/${number}`));
}

function holdersOf(partitions: PartitionsByTopic, members: readonly JoinedMember[]): Map<string, string> {
  const holders = new Map<string, string>();
  for (const [id, share] of assignPartitions(partitions, members)) {
    for (const name of namesIn(share)) {
      assert.ok(!holders.has(name), `${name} has two owners`);
      holders.set(name, id);
    }
  }
  return holders;
}

const numbers = (max: number) => fc.uniqueArray(fc.integer({ min: 0, max: max - 1 }));

/** Two topics, and up to four members that joined some of them and claim anything. */
const groups = fc
  .tuple(fc.integer({ min: 0, max: 9 }), fc.integer({ min: 0, max: 9 }))
  .chain(([xCount, yCount]) =>
    fc.record({
      partitions: fc.constant({ x: [...Array(xCount).keys()], y: [...Array(yCount).keys()] }),
      members: fc.subarray(MEMBERS, { minLength: 1 }).chain((ids) =>
        fc.tuple(
          ...ids.map((id) =>
            fc.record({
              id: fc.constant(id),
              topics: fc.subarray(TOPICS, { minLength: 1 }),
              claims: fc.record({ x: numbers(Math.max(1, xCount)), y: numbers(Math.max(1, yCount)) }),
            }),
          ),
        ),
      ),
    }),
  );

test("what a member claims goes to nobody else, and what two claim to nobody", () => {
  fc.assert(
    fc.property(groups, ({ partitions, members }) => {
      for (const [name, holder] of holdersOf(partitions, members)) {
        const claimants = members.filter(({ claims }) => namesIn(claims).includes(name)).map(({ id }) => id);
        assert.deepEqual(
          claimants.filter((id) => id !== holder),
          [],
        );
        const topics = members.find(({ id }) => id === holder)!.topics;
        assert.ok(topics.includes(name.split("/")[0]!), "only what was joined");
      }
    }),
    { seed: SEED },
  );
});

test("once what is missing in a share is claimed no more, every partition has an owner and shares are fair", () => {
  fc.assert(
    fc.property(groups, ({ partitions, members }) => {
      const first = assignPartitions(partitions, members);
      const rejoined = members.map((member) => ({ ...member, claims: first.get(member.id)! }));
      const holders = holdersOf(partitions, rejoined);
      const joined = new Set(members.flatMap(({ topics }) => topics));
      const wanted = Object.entries(partitions).flatMap(([topic, numbers]) =>
        joined.has(topic) ? numbers.map((number) => `${topic}/${number}`) : [],
      );
      assert.deepEqual([...holders.keys()].toSorted(), wanted.toSorted());
      const sameTopics = members.filter(({ topics }) => topics.length === TOPICS.length);
      const sizes = sameTopics.map(
        ({ id }) => [...holders.values()].filter((holder) => holder === id).length,
      );
      assert.ok(
        Math.max(0, ...sizes) - Math.min(...sizes, Infinity) <= 1,
        "members of the same topics differ",
      );
    }),
    { seed: SEED },
  );
});

test("a member that joins takes no more than its share, and the others keep the rest", () => {
  const partitions = { x: [0, 1, 2, 3, 4, 5, 6] };
  const old = { id: "a", topics: ["x"], claims: { x: [0, 1, 2, 3, 4, 5, 6] } };
  const shares = assignPartitions(partitions, [old, { id: "b", topics: ["x"], claims: {} }]);
  assert.equal(shares.get("a")!["x"]!.length, 4);
  assert.deepEqual({ ...shares.get("b") }, {}, "it waits until they are given up");
});

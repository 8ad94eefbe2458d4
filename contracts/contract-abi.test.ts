import assert from "node:assert/strict";
import { test } from "node:test";
import { accessManagerAbi, settlementAbi } from "./artifact.ts";

const account = `0x${"12".repeat(20)}`;

test("what the contract does not have is no call, neither to the compiler nor when it runs", () => {
  // @ts-expect-error No such function.
  assert.throws(() => settlementAbi.encode("tips", [1]));
  // @ts-expect-error A region is a number.
  assert.throws(() => settlementAbi.encode("tip", ["first"]));
  // @ts-expect-error One argument too many.
  assert.throws(() => settlementAbi.encode("tip", [1, 2]));
  // @ts-expect-error No such event.
  assert.throws(() => settlementAbi.topics("Unsettled"));
  // @ts-expect-error No such function.
  assert.throws(() => settlementAbi.selector("tips"));
  // @ts-expect-error A constructor takes six arguments.
  assert.throws(() => settlementAbi.encodeConstructed([account]));
});

test("only indexed fields of an event can be asked for", () => {
  assert.equal(settlementAbi.topics("Settled", { region: 7 })[1], `0x${"0".repeat(63)}7`);
  assert.throws(() => settlementAbi.topics("Settled", { root: `0x${"00".repeat(32)}` }));
});

test("a revert is told by the contract's own errors, and by nothing else", () => {
  const data = `0x86c1c9e6${"0".repeat(63)}7`;
  assert.deepEqual(settlementAbi.error(data), { name: "UnknownRegion", given: [7n] });
  assert.equal(accessManagerAbi.error(data), undefined);
  for (const nothing of ["0x", "0x01", "0xffffffff"]) assert.equal(settlementAbi.error(nothing), undefined);
});

test("an answer is the value itself, or the values by their names", () => {
  const word = (digits: string) => digits.padStart(64, "0");
  assert.equal(settlementAbi.decode("windowS", `0x${word("a")}`), 10n);
  const pending = settlementAbi.decode("pendingRotation", `0x${word("1")}${word("2")}`);
  assert.equal(pending.executableAt, 2n);
  assert.equal(pending.digest, `0x${word("1")}`);
  assert.throws(() => settlementAbi.decode("windowS", "0x"), { code: "BAD_DATA" });
});

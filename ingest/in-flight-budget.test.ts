import assert from "node:assert/strict";
import { test } from "node:test";
import { InFlightBudget } from "./in-flight-budget.ts";

test("no more packets and bytes are taken than there are", () => {
  const budget = new InFlightBudget({ maxPackets: 2, maxBytes: 100 });
  assert.equal(budget.tryTake(60), true);
  assert.equal(budget.tryTake(41), false);
  assert.equal(budget.tryTake(40), true);
  budget.giveBack(1, 60);
  assert.equal(budget.tryTake(1), true);
  assert.equal(budget.tryTake(1), false);
});

test("what is given back goes to those who wait, first come first served, each asked once", () => {
  const budget = new InFlightBudget({ maxPackets: 1, maxBytes: 100 });
  const asked: string[] = [];
  const waiter = (name: string, bytes: number) => {
    const wake = (): void => {
      asked.push(name);
      if (!budget.tryTake(bytes)) budget.wait(wake);
    };
    return wake;
  };
  assert.ok(budget.tryTake(50));
  budget.wait(waiter("too large", 101));
  budget.wait(waiter("first", 10));
  budget.wait(waiter("second", 10));
  budget.giveBack(1, 50);
  assert.deepEqual(asked, ["too large", "first"]);
  budget.giveBack(1, 10);
  assert.deepEqual(asked, ["too large", "first", "second"]);
});

test("who no longer waits is not asked", () => {
  const budget = new InFlightBudget({ maxPackets: 1, maxBytes: 100 });
  const wake = () => assert.fail("asked");
  budget.wait(wake);
  budget.forget(wake);
  assert.ok(budget.tryTake(1));
  budget.giveBack(1, 1);
});

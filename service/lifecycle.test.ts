import assert from "node:assert/strict";
import { test } from "node:test";
import { pino } from "pino";
import { Lifecycle, type Service } from "./lifecycle.ts";

const log = pino({ level: "silent" });

/** A service that writes down what is asked of it, and fails where it is told to. */
function recorded(
  name: string,
  events: string[],
  failing: { start?: boolean; stop?: boolean } = {},
): Service {
  return {
    name,
    async start() {
      events.push(`start ${name}`);
      if (failing.start === true) throw new Error(`${name} cannot start`);
    },
    async stop() {
      events.push(`stop ${name}`);
      if (failing.stop === true) throw new Error(`${name} cannot stop`);
    },
  };
}

test("services stop in the reverse order of their start, once", async () => {
  const events: string[] = [];
  const lifecycle = new Lifecycle({ log });
  for (const name of ["a", "b", "c"]) await lifecycle.start(recorded(name, events));
  await Promise.all([lifecycle.stop(), lifecycle.stop()]);
  assert.deepEqual(events, ["start a", "start b", "start c", "stop c", "stop b", "stop a"]);
});

test("a failed start stops what had started and is reported", async () => {
  const events: string[] = [];
  const lifecycle = new Lifecycle({ log });
  await lifecycle.start(recorded("a", events));
  await assert.rejects(lifecycle.start(recorded("b", events, { start: true })), /b cannot start/);
  assert.deepEqual(events, ["start a", "start b", "stop b", "stop a"]);
});

test("a service that cannot stop does not keep the others from it", async () => {
  const events: string[] = [];
  const lifecycle = new Lifecycle({ log });
  await lifecycle.start(recorded("a", events));
  await lifecycle.start(recorded("b", events, { stop: true }));
  await lifecycle.stop();
  assert.deepEqual(events.slice(2), ["stop b", "stop a"]);
});

test("a service that is still starting is stopped after its start", async () => {
  const events: string[] = [];
  const lifecycle = new Lifecycle({ log });
  const slow = recorded("slow", events);
  const gate = Promise.withResolvers<void>();
  const started = lifecycle.start({
    ...slow,
    async start() {
      await gate.promise;
      await slow.start();
    },
  });
  const stopped = lifecycle.stop();
  gate.resolve();
  await Promise.all([started, stopped]);
  assert.deepEqual(events, ["start slow", "stop slow"]);
});

test("nothing starts once the stop has begun", async () => {
  const events: string[] = [];
  const lifecycle = new Lifecycle({ log });
  await lifecycle.stop();
  await assert.rejects(lifecycle.start(recorded("a", events)), { code: "stopping" });
  assert.deepEqual(events, []);
});

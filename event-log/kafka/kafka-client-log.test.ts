import assert from "node:assert/strict";
import { test } from "node:test";
import { logLevel } from "kafkajs";
import pino from "pino";
import { clientLog } from "./kafka-client-log.ts";

/** Messages of kafkajs as they come out, with their level. */
function logged(entries: readonly { level: logLevel; message: string; error?: string }[]): string[] {
  const lines: string[] = [];
  const log = pino({ level: "debug" }, { write: (line) => lines.push(line) });
  const write = clientLog(log)(logLevel.INFO);
  for (const { level, message, error } of entries) {
    const fields = {
      timestamp: "",
      message,
      broker: "127.0.0.1:9092",
      ...(error === undefined ? {} : { error }),
    };
    write({ namespace: "Connection", level, label: "", log: fields });
  }
  return lines.map((line) => {
    const { level, detail } = JSON.parse(line) as { level: number; detail: string };
    return `${level === 40 ? "warn" : "debug"} ${detail}`;
  });
}

test("errors of kafkajs are warnings, what passes by itself and what it does is for debugging", () => {
  assert.deepEqual(
    logged([
      { level: logLevel.ERROR, message: "Connection timeout" },
      {
        level: logLevel.ERROR,
        message: "Response JoinGroup(key: 11, version: 5)",
        error: "The group is rebalancing",
      },
      { level: logLevel.ERROR, message: "Response Heartbeat", error: "The coordinator is loading" },
      { level: logLevel.INFO, message: "Consumer has joined the group" },
      { level: logLevel.WARN, message: "something" },
    ]),
    [
      "warn Connection timeout",
      "debug Response JoinGroup(key: 11, version: 5)",
      "debug Response Heartbeat",
      "debug Consumer has joined the group",
      "warn something",
    ],
  );
});

test("the same complaint is told once in a while", () => {
  const refused = { level: logLevel.ERROR, message: "connect ECONNREFUSED" };
  assert.deepEqual(logged([refused, refused, { ...refused, message: "other" }, refused]), [
    "warn connect ECONNREFUSED",
    "debug connect ECONNREFUSED",
    "warn other",
    "debug connect ECONNREFUSED",
  ]);
});

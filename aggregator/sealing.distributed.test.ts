import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after } from "node:test";
import { deleteRedisNamespace } from "../service/redis.ts";
import { sealingContract } from "./sealing-contract-suite.ts";

const url = process.env["TEST_REDIS_URL"];
assert.ok(url !== undefined, "run by `npm run test:distributed`");
const namespaces: string[] = [];
after(async () => {
  for (const namespace of namespaces) await deleteRedisNamespace({ url, namespace });
});

sealingContract("jobs on Redis", () => {
  const namespace = `test-${randomUUID()}`;
  namespaces.push(namespace);
  return { kind: "redis", url, namespace };
});

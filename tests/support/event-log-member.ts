// A member of a group in a process of its own, for tests that kill it. It owns what it is given and consumes nothing.
// Arguments: connection string, lease in ms, group, topics.
import pino from "pino";
import { PostgresEventLog } from "../../event-log/postgres/postgres-event-log.ts";

const [connectionString = "", leaseMs = "", group = "", ...topics] = process.argv.slice(2);
const log = await PostgresEventLog.open(
  { connectionString, leaseMs: Number(leaseMs) },
  { log: pino({ level: "silent" }) },
);
await log.join(group, topics, {
  assigned: () => Promise.resolve(undefined),
  records: () => new Promise<never>(() => {}),
  revoked: () => Promise.resolve(),
  halted() {},
});
process.send?.("joined");

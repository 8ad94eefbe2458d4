// A member of a group in a process of its own, for tests that kill it. It owns what it is given and consumes nothing.
// Arguments: options of the log as JSON, group, topics.
import pino from "pino";
import { KafkaEventLog, type KafkaEventLogOptions } from "../../event-log/kafka/kafka-event-log.ts";

const [options = "", group = "", ...topics] = process.argv.slice(2);
const log = await KafkaEventLog.open(JSON.parse(options) as KafkaEventLogOptions, {
  log: pino({ level: "silent" }),
});
await log.join(group, topics, {
  assigned: () => Promise.resolve(undefined),
  records: () => new Promise<never>(() => {}),
  revoked: () => Promise.resolve(),
  halted() {},
});
process.send?.("joined");

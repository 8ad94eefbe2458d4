// A process that appends records "0", "1", … one by one, tells each that was confirmed, and is killed at a fault point.
// Arguments: connection string, topic, fault point as `name:occurrence`.
import pino from "pino";
import { PostgresEventLog } from "../../event-log/postgres/postgres-event-log.ts";
import { parseFaultPoint } from "../../service/faults.ts";

const [connectionString = "", topic = "", point = ""] = process.argv.slice(2);
const log = await PostgresEventLog.open(
  { connectionString },
  { log: pino({ level: "silent" }), faults: parseFaultPoint(point) },
);
const appender = await log.openAppender();
for (let n = 0; ; n += 1) {
  await appender.append([{ topic, partition: 0, key: `${n}`, headers: {}, value: Buffer.from("x") }]);
  process.send?.(`${n}`);
}

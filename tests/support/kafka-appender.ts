// A process that appends records "0", "1", … one by one, tells each that was confirmed, and is killed at a fault point.
// Arguments: options of the log as JSON, topic, fault point as `name:occurrence`.
import pino from "pino";
import { KafkaEventLog, type KafkaEventLogOptions } from "../../event-log/kafka/kafka-event-log.ts";
import { parseFaultPoint } from "../../service/faults.ts";

const [options = "", topic = "", point = ""] = process.argv.slice(2);
const log = await KafkaEventLog.open(JSON.parse(options) as KafkaEventLogOptions, {
  log: pino({ level: "silent" }),
  faults: parseFaultPoint(point),
});
const appender = await log.openAppender();
for (let n = 0; ; n += 1) {
  await appender.append([{ topic, partition: 0, key: `${n}`, headers: {}, value: Buffer.from("x") }]);
  process.send?.(`${n}`);
}

// An ingest worker in a process of its own: for tests that kill it, and for the bench.
// Arguments: connection string, port, fault point as for `parseFaultPoint`.
import { PostgresEventLog } from "../../event-log/postgres/postgres-event-log.ts";
import pino from "pino";
import { parseFaultPoint } from "../../service/faults.ts";
import { openBackend, startWorker } from "./ingest-under-test.ts";

const [url = "", port = "", faultPoint = ""] = process.argv.slice(2);
const faults = parseFaultPoint(faultPoint);
const eventLog = await PostgresEventLog.open(
  { connectionString: url },
  { log: pino({ level: "silent" }), faults },
);
await startWorker(
  await openBackend(url),
  { port: Number(port), workerId: `pid-${process.pid}` },
  { faults, eventLog },
);
process.on("disconnect", () => process.exit());
if (process.connected) process.send?.("listening");

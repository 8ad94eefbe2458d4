// A recorder in a process of its own, for tests that kill it. Stops in order on SIGTERM.
// Arguments: connection string, region, fault point with occurrence or nothing.
import pino from "pino";
import { Registry } from "prom-client";
import { PostgresEventLog } from "../../event-log/postgres/postgres-event-log.ts";
import { openPool } from "../../service/database.ts";
import { parseFaultPoint } from "../../service/faults.ts";
import { PostgresTimeSeries } from "../postgres/postgres-time-series.ts";
import { Recorder } from "../recorder.ts";

const [connectionString = "", region = "", fault = ""] = process.argv.slice(2);
const log = pino({ level: "silent" });
const pool = openPool(
  { connectionString, applicationName: "recorder", maxConnections: 2, schema: "ledger" },
  () => {},
);
const eventLog = await PostgresEventLog.open({ connectionString, leaseMs: 500 }, { log });
const timeSeries = await PostgresTimeSeries.open({ connectionString, maxConnections: 2 }, { log });
const recorder = new Recorder(
  { regions: [region], maxPointsPerWrite: 12 },
  { pool, eventLog, timeSeries, log, metrics: new Registry(), faults: parseFaultPoint(fault) },
);
await recorder.start();
process.once("SIGTERM", () => {
  void (async () => {
    await recorder.stop();
    await eventLog.close();
    await timeSeries.close();
    await pool.end();
  })();
});

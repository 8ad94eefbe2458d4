// An aggregator in a process of its own, which a test may kill:
// node aggregator-process.ts URL PARTITIONS FAULT [REDIS_URL NAMESPACE]
import { Registry } from "prom-client";
import { Aggregator } from "../../aggregator/aggregator.ts";
import { PostgresEventLog } from "../../event-log/postgres/postgres-event-log.ts";
import { systemClock } from "../../service/clock.ts";
import { openPool } from "../../service/database.ts";
import { parseFaultPoint } from "../../service/faults.ts";
import { INTERVAL_S, REGION, silent } from "./aggregation.ts";

const [url = "", partitions = "1", fault = "", redisUrl = "", namespace = ""] = process.argv.slice(2);
const pool = openPool(
  { connectionString: url, applicationName: "aggregator", maxConnections: 6, schema: "ledger" },
  () => {},
);
const eventLog = await PostgresEventLog.open({ connectionString: url, leaseMs: 600 }, { log: silent });
const aggregator = new Aggregator(
  {
    regions: [REGION],
    intervalLengthS: INTERVAL_S,
    partitionsPerRegion: Number(partitions),
    graceMs: 50,
    flushEveryMs: 40,
    flushEveryRecords: 5,
    jobs:
      redisUrl === ""
        ? { kind: "postgres", connectionString: url }
        : { kind: "redis", url: redisUrl, namespace },
    ledgerConnectionString: url,
    sweepEveryMs: 100,
    sealLockMs: 300,
  },
  {
    pool,
    eventLog,
    clock: systemClock,
    log: silent,
    metrics: new Registry(),
    faults: parseFaultPoint(fault),
  },
);
await aggregator.start();
process.once("SIGTERM", () => {
  void aggregator
    .stop()
    .then(() => eventLog.close())
    .then(() => pool.end());
});
process.send?.("started");

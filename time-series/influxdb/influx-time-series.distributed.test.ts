import { after } from "node:test";
import { randomBytes } from "node:crypto";
import { pino } from "pino";
import { createTestDatabase } from "../../tests/support/postgres.ts";
import { timeSeriesContract } from "../contract-suite.ts";
import { InfluxTimeSeries, deleteInfluxNamespace } from "./influx-time-series.ts";

const log = pino({ level: "silent" });
const { TEST_INFLUX_URL: url = "", TEST_INFLUX_ORG: org = "", TEST_INFLUX_TOKEN: token = "" } = process.env;
const connection = { url, org, token, namespace: `test-${randomBytes(4).toString("hex")}` };
const marksUrl = await createTestDatabase();
after(() => deleteInfluxNamespace(connection));
timeSeriesContract("InfluxDB", () => InfluxTimeSeries.open({ ...connection, marksUrl }, { log }));

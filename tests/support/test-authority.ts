import { pino } from "pino";
import { Registry } from "prom-client";
import { Api } from "../../api/api.ts";
import {
  Authority,
  type AuthorityDependencies,
  type AuthorityOptions,
} from "../../rollup-relayer/authority/authority.ts";
import { systemClock } from "../../service/clock.ts";
import { type Pool, openPool } from "../../service/database.ts";
import { noFaults } from "../../service/faults.ts";
import { PostgresTimeSeries } from "../../time-series/postgres/postgres-time-series.ts";
import { TEST_AUTHORITIES, TEST_CAP_WH, type TestChain } from "./test-chain.ts";

/** The schema that every test authority keeps its store in. */
export const TEST_STORE_SCHEMA = "authority_test";

const log = pino({ level: process.env["GRIDROOT_TEST_LOG"] ?? "silent" });

/** A running HTTP interface over a ledger and a chain. */
export async function startTestApi(
  chain: Pick<TestChain, "client" | "domain">,
  ledger: { readonly pool: Pool; readonly url: string },
): Promise<{ readonly url: string; stop(): Promise<void> }> {
  const timeSeries = await PostgresTimeSeries.open(
    { connectionString: ledger.url, maxConnections: 1 },
    { log, clock: systemClock },
  );
  const metrics = new Registry();
  const api = new Api(
    { port: 0 },
    {
      ...{ pool: ledger.pool, timeSeries, clock: systemClock, log, metrics },
      readiness: () => Promise.resolve({}),
      metricsText: () => metrics.metrics(),
      chain: {
        domain: chain.domain,
        authoritySet: () => chain.client.readAuthoritySet(),
        isAccepted: (content) => chain.client.isAccepted(content),
      },
    },
  );
  await api.start();
  return {
    url: api.url,
    async stop() {
      await api.stop();
      await timeSeries.close();
    },
  };
}

/** A pool on an authority's own store. */
export function openStore(url: string): Pool {
  const options = { connectionString: url, applicationName: "authority", maxConnections: 4 };
  return openPool({ ...options, schema: TEST_STORE_SCHEMA }, () => {});
}

/** An authority over a test chain, in a hurry; by default the first of the set, agreed to all test regions. */
export function testAuthority(
  chain: Pick<TestChain, "client" | "domain">,
  apiUrl: string,
  pool: Pool,
  options: Partial<AuthorityOptions> = {},
  dependencies: Partial<AuthorityDependencies> = {},
): Authority {
  const terms = { intervalLengthS: 900, capWh: TEST_CAP_WH };
  return new Authority(
    {
      ...{ name: "test", apiUrl, domain: chain.domain, storeSchema: TEST_STORE_SCHEMA },
      ...{ pollMs: 20, timeoutMs: 5_000, maxBackoffMs: 200, maxEvidenceBytes: 2 ** 20 },
      terms: new Map([1, 2, 3].map((region) => [region, terms])),
      ...options,
    },
    {
      ...{ pool, signer: TEST_AUTHORITIES[0]!, client: chain.client, fetch, log, metrics: new Registry() },
      ...{ faults: noFaults, clock: systemClock, random: () => 0.99 },
      ...dependencies,
    },
  );
}

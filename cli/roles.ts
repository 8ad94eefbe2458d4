import { Aggregator } from "../aggregator/aggregator.ts";
import { Api } from "../api/api.ts";
import { LocalChain } from "../contracts/local-chain/local-chain.ts";
import { wh } from "../domain/metering/units.ts";
import type { Hex } from "../domain/settlement/settlement.ts";
import { Retention } from "../event-log/retention.ts";
import { regionTopic } from "../event-log/topics.ts";
import { DEFAULT_INGEST_LIMITS, Ingest } from "../ingest/ingest.ts";
import { AGGREGATOR } from "../ledger/sealing.ts";
import { Authority } from "../rollup-relayer/authority/authority.ts";
import { Relayer } from "../rollup-relayer/relayer/relayer.ts";
import { privateKeySigner } from "../rollup-relayer/signer.ts";
import { backendsOf, directPostgresUrl } from "../service/backends.ts";
import { systemClock } from "../service/clock.ts";
import { openPool } from "../service/database.ts";
import { GridrootError } from "../service/errors.ts";
import type { Service } from "../service/lifecycle.ts";
import { showPool } from "../service/pool-gauges.ts";
import { RECORDER } from "../time-series/recorder-balance.ts";
import { Recorder } from "../time-series/recorder.ts";
import { Rollups } from "../time-series/rollups.ts";
import { poolSize } from "./connections.ts";
import { embeddedKeys } from "./deployment.ts";
import { metricsOfAll, readinessOf } from "./observation.ts";
import { openReplicaReads, replicaReadiness } from "./replica.ts";
import { missing, type RoleProcess } from "./role-process.ts";

/** What a process can be. */
export const ROLES = ["chain", "ingest", "recorder", "aggregator", "api", "authority", "relayer"] as const;
export type Role = (typeof ROLES)[number];

/** Whether `name` is a role's. */
export function isRole(name: string): name is Role {
  return ROLES.some((role) => role === name);
}

const DAY_S = 86_400;
const GWEI = 10n ** 9n;
const LOG_RETENTION_EVERY_MS = 3_600_000;
/** What each account of the local chain begins with. */
const LOCAL_BALANCE_WEI = 10n ** 24n;

const RELAYER_LIMITS = {
  maxInFlight: 64,
  maxInFlightPerRegion: 16,
  gasMarginPercent: 25,
  pollMs: 500,
  rpcTimeoutMs: 10_000,
  resendMs: 15_000,
  retryRefusedMs: 30_000,
  maxBackoffMs: 10_000,
} as const;

/** The services of a role, in the order of their start. */
export function servicesOf(role: Role, process_: RoleProcess): Promise<readonly Service[]> {
  return SERVICES[role](process_);
}

const SERVICES: Readonly<Record<Role, (process_: RoleProcess) => Promise<readonly Service[]>>> = {
  chain,
  ingest,
  recorder,
  aggregator,
  api,
  authority,
  relayer,
};

async function chain(process_: RoleProcess): Promise<readonly Service[]> {
  const { settings, log, faults, context } = process_;
  const keys = await embeddedKeys(settings, context.grid);
  const accounts = Object.values(keys).map((privateKey) => ({ privateKey, balanceWei: LOCAL_BALANCE_WEI }));
  const { dataDir, chainHost: host, chainPort: port, chainId } = settings;
  const node = new LocalChain(
    { dataDir, port, host, chainId, accounts },
    { log, faults, onFailure: (error) => process_.fail(error) },
  );
  process_.offerMining((blocks) => node.mine(blocks));
  return [node];
}

async function ingest(process_: RoleProcess): Promise<readonly Service[]> {
  const { settings, context, log, metrics, faults } = process_;
  const [ledger, eventLog] = await Promise.all([process_.ledger(), process_.eventLog()]);
  const worker = new Ingest(
    {
      ...DEFAULT_INGEST_LIMITS,
      host: settings.mqttHost,
      port: settings.mqttPort,
      workerId: process_.id,
      reusePort: true,
      regions: context.grid.regions.map(({ name }) => name),
      partitionsPerRegion: settings.partitionsPerRegion,
      clockLimits: { maxAheadS: settings.clockAheadMaxS, maxBehindS: settings.clockBehindMaxS },
      maxConnections: settings.ingestMaxConnections,
      maxInFlightTotal: settings.ingestMaxInFlight,
      maxInFlightPerClient: settings.ingestMaxInFlightPerClient,
      appendMaxDelayMs: settings.appendMaxDelayMs,
      appendMaxRecords: settings.appendMaxRecords,
      appendTimeoutMs: settings.appendTimeoutMs,
    },
    {
      pool: ledger,
      listenUrl: directPostgresUrl(settings),
      eventLog,
      clock: process_.readingClock,
      log,
      metrics,
      faults,
    },
  );
  return [worker];
}

async function recorder(process_: RoleProcess): Promise<readonly Service[]> {
  const { settings, context, log, metrics, faults } = process_;
  const { ledger, eventLog, timeSeries } = await process_.stores();
  const bucketS = settings.rollupRetentionDays * DAY_S;
  const rollups = new Rollups(
    {
      retention: {
        rawS: settings.rawRetentionDays * DAY_S,
        bucketS: { 900: bucketS, 3600: bucketS, 86400: bucketS },
      },
    },
    { timeSeries, log, metrics, clock: systemClock },
  );
  const regions = context.grid.regions.map(({ name }) => name);
  const service = new Recorder(
    { regions },
    { pool: ledger, eventLog, timeSeries, log, metrics, faults, onWritten: () => rollups.wake() },
  );
  const retention = new Retention(
    {
      topics: regions.map((region) => ({
        topic: regionTopic(region),
        partitions: settings.partitionsPerRegion,
        consumers: [RECORDER, AGGREGATOR],
      })),
      keepMs: settings.logRetentionDays * DAY_S * 1000,
      everyMs: LOG_RETENTION_EVERY_MS,
    },
    { eventLog, ledger, clock: systemClock, log },
  );
  return [rollups, service, retention];
}

async function aggregator(process_: RoleProcess): Promise<readonly Service[]> {
  const { settings, context, log, metrics, faults } = process_;
  const [ledger, eventLog] = await Promise.all([process_.ledger(), process_.eventLog()]);
  const service = new Aggregator(
    {
      regions: context.grid.regions.map((region) => ({ ...region, capWh: wh(region.capWh) })),
      intervalLengthS: context.grid.intervalLengthS,
      graceMs: settings.sealGraceMs,
      flushEveryMs: settings.flushEveryMs,
      flushEveryRecords: settings.flushEveryRecords,
      partitionsPerRegion: settings.partitionsPerRegion,
      ledgerConnectionString: directPostgresUrl(settings),
      jobs:
        backendsOf(settings).jobs === "redis"
          ? { kind: "redis", url: settings.redisUrl, namespace: settings.namespace }
          : { kind: "postgres", connectionString: directPostgresUrl(settings) },
    },
    {
      pool: ledger,
      eventLog,
      clock: systemClock,
      log,
      metrics,
      faults,
    },
  );
  return [service];
}

async function relayer(process_: RoleProcess): Promise<readonly Service[]> {
  const { settings, log, metrics, faults, observers } = process_;
  if (settings.relayerKey === "") throw missing("GRIDROOT_RELAYER_KEY");
  const ledger = await process_.ledger();
  const { provider, client, domain } = await process_.chain();
  const service = new Relayer(
    {
      domain,
      listenUrl: directPostgresUrl(settings),
      confirmations: settings.confirmations,
      maxFeeCeilingWei: BigInt(settings.feeCeilingGwei) * GWEI,
      ...RELAYER_LIMITS,
    },
    {
      pool: ledger,
      provider,
      client,
      signer: privateKeySigner(settings.relayerKey as Hex),
      log,
      metrics,
      faults,
      clock: systemClock,
      random: Math.random,
      onMined: (seen) => observers.onMined?.(seen),
    },
  );
  return [service];
}

async function api(process_: RoleProcess): Promise<readonly Service[]> {
  const { settings, log, metrics } = process_;
  const [ledger, timeSeries] = await Promise.all([process_.ledger(), process_.timeSeries()]);
  const { client, domain } = await process_.chain();
  const reads = openReplicaReads(process_, ledger);
  const service = new Api(
    { host: settings.httpHost, port: settings.httpPort },
    {
      pool: ledger,
      ...(reads !== undefined && { reads }),
      timeSeries,
      chain: {
        domain,
        authoritySet: () => client.readAuthoritySet(),
        isAccepted: (content) => client.isAccepted(content),
      },
      clock: systemClock,
      log,
      metrics,
      metricsText: () => metricsOfAll(process_),
      readiness: async () => ({
        ...(await readinessOf(process_)),
        ...(reads !== undefined && { ledgerReplica: replicaReadiness(reads) }),
      }),
    },
  );
  return reads === undefined ? [service] : [reads, service];
}

async function authority(process_: RoleProcess): Promise<readonly Service[]> {
  const { settings, context, log, metrics, faults } = process_;
  if (settings.authorityName === "") throw missing("GRIDROOT_AUTHORITY");
  if (settings.authorityKey === "") throw missing("GRIDROOT_AUTHORITY_KEY");
  if (!context.grid.authorities.some(({ name }) => name === settings.authorityName)) {
    throw new GridrootError(
      "settings-invalid",
      `GRIDROOT_AUTHORITY: ${settings.authorityName} is not in the grid file`,
    );
  }
  const storeSchema = `authority_${settings.authorityName.replaceAll("-", "_")}`;
  const { client, domain } = await process_.chain();
  const pool = openPool(
    {
      connectionString: settings.postgresUrl,
      applicationName: storeSchema,
      maxConnections: poolSize(settings, ["authority"]),
    },
    (error) => log.warn({ err: error }, "idle authority store connection lost"),
  );
  showPool("authority", pool, metrics);
  const { intervalLengthS, regions } = context.grid;
  const service = new Authority(
    {
      name: settings.authorityName,
      apiUrl: settings.apiUrl === "" ? `http://${settings.httpHost}:${settings.httpPort}` : settings.apiUrl,
      pollMs: 250,
      maxBackoffMs: 10_000,
      timeoutMs: 10_000,
      maxEvidenceBytes: 256 * 1024 * 1024,
      domain,
      terms: new Map(regions.map(({ regionId, capWh }) => [regionId, { intervalLengthS, capWh: wh(capWh) }])),
      storeSchema,
    },
    {
      pool,
      signer: privateKeySigner(settings.authorityKey as Hex),
      client,
      fetch,
      log,
      metrics,
      faults,
      clock: systemClock,
      random: Math.random,
    },
  );
  return [{ name: "authority store", start: async () => {}, stop: () => pool.end() }, service];
}

import type { ClockLimits } from "../domain/metering/codec.ts";
import { GridrootError } from "../service/errors.ts";

/** Every bound of ingest. All are positive integers. */
export interface IngestLimits {
  readonly maxConnections: number;
  /** From accept to CONNACK; above it the socket closes. */
  readonly connectTimeoutMs: number;
  /** From the first to the last byte of one packet; above it the socket closes. */
  readonly packetTimeoutMs: number;
  /** How long written acknowledgements may wait for a client that does not read them. */
  readonly drainTimeoutMs: number;
  /** The longest silence that is tolerated is 1.5 times the client's keep alive, and 1.5 times this at the most. */
  readonly maxKeepaliveS: number;
  /** The first packet, which must be CONNECT. Whole packet, fixed header included. */
  readonly maxConnectPacketBytes: number;
  /** Any later packet. */
  readonly maxPacketBytes: number;
  /** Publishes of one client between their receipt and their settlement; above it its socket is not read. */
  readonly maxInFlightPerClient: number;
  /** The same over all clients of this worker. */
  readonly maxInFlightTotal: number;
  /** Bytes of the publishes in flight over all clients of this worker. */
  readonly maxInFlightBytes: number;
  /** QoS 2 packet identifiers of one client that wait for PUBREL. */
  readonly maxUnreleasedPerClient: number;
  /** How long a group commit waits for more after its first record. */
  readonly appendMaxDelayMs: number;
  readonly appendMaxRecords: number;
  readonly appendMaxBytes: number;
  /** An append that has not answered for so long has failed: its clients are disconnected unacknowledged. */
  readonly appendTimeoutMs: number;
  /** Pause before the log is tried again after a failure; doubles up to `logRetryMaxMs` while it fails. */
  readonly logRetryMinMs: number;
  readonly logRetryMaxMs: number;
  /** Meters remembered from the registry. */
  readonly meterCacheEntries: number;
  /** How long a remembered meter is believed without a look; a changed one is announced at once. */
  readonly meterCacheTtlMs: number;
  /** How long an orderly stop waits for each of its steps. */
  readonly stopTimeoutMs: number;
}

/** Limits of a worker on one core. */
export const DEFAULT_INGEST_LIMITS: IngestLimits = {
  maxConnections: 18_000,
  connectTimeoutMs: 10_000,
  packetTimeoutMs: 30_000,
  drainTimeoutMs: 10_000,
  maxKeepaliveS: 1200,
  maxConnectPacketBytes: 1024,
  maxPacketBytes: 65_536,
  maxInFlightPerClient: 32,
  maxInFlightTotal: 20_000,
  maxInFlightBytes: 64 * 1024 * 1024,
  maxUnreleasedPerClient: 1000,
  appendMaxDelayMs: 2,
  appendMaxRecords: 5000,
  appendMaxBytes: 4 * 1024 * 1024,
  appendTimeoutMs: 5000,
  logRetryMinMs: 250,
  logRetryMaxMs: 10_000,
  meterCacheEntries: 100_000,
  meterCacheTtlMs: 60_000,
  stopTimeoutMs: 10_000,
};

export interface IngestOptions extends IngestLimits {
  readonly host: string;
  /** 0 takes a free port. */
  readonly port: number;
  /** Unique among the workers that are alive: the ledger's session rows carry it. */
  readonly workerId: string;
  /** Whether other workers listen on the same port. */
  readonly reusePort: boolean;
  /** Regions served; each has its topic in the log. */
  readonly regions: readonly string[];
  /** Partitions of each region's topic. */
  readonly partitionsPerRegion: number;
  readonly clockLimits: ClockLimits;
}

/** Throws `ingest-options` where the limits contradict one another. */
export function checkOptions(options: IngestOptions): void {
  const { regions, clockLimits, ...rest } = options;
  const limits = Object.entries({ ...rest, ...clockLimits });
  const faults = [
    ...limits
      .filter(([name, value]) => typeof value === "number" && !MAY_BE_ZERO.has(name) && value <= 0)
      .map(([name]) => `${name} must be positive`),
    ...(regions.length === 0 ? ["regions must not be empty"] : []),
    ...(options.maxConnectPacketBytes <= options.maxPacketBytes
      ? []
      : ["maxConnectPacketBytes exceeds maxPacketBytes"]),
    ...(options.maxPacketBytes <= options.maxInFlightBytes
      ? []
      : ["maxPacketBytes exceeds maxInFlightBytes: such a packet would wait for ever"]),
    ...(options.maxPacketBytes <= options.appendMaxBytes
      ? []
      : ["maxPacketBytes exceeds appendMaxBytes: such a packet would fit no group commit"]),
    ...(options.logRetryMinMs <= options.logRetryMaxMs ? [] : ["logRetryMinMs exceeds logRetryMaxMs"]),
  ];
  if (faults.length > 0) throw new GridrootError("ingest-options", faults.join("; "));
}

const MAY_BE_ZERO = new Set(["port", "appendMaxDelayMs", "maxAheadS"]);

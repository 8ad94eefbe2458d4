import type { Settings } from "../service/configuration.ts";
import { openPool, type Pool } from "../service/database.ts";
import { showPool } from "../service/pool-gauges.ts";
import { ReplicaLag } from "../service/replica-lag.ts";
import { ReplicaReads } from "../service/replica-reads.ts";
import { CONNECTIONS } from "./connections.ts";
import type { Readiness } from "./observation.ts";
import type { RoleProcess } from "./role-process.ts";

/** A replica that does not take a connection at once is done without. */
const REPLICA_ACQUIRE_WITHIN_MS = 1_000;

/** The reads from the configured replica, or `undefined` where there is none. Its service begins to use it. */
export function openReplicaReads(process_: RoleProcess, ledger: Pool): ReplicaReads | undefined {
  const { settings, log, metrics } = process_;
  if (settings.postgresReplicaUrl === "") return undefined;
  const replica = openPool(
    {
      connectionString: settings.postgresReplicaUrl,
      applicationName: "gridroot replica",
      maxConnections: CONNECTIONS.api.replica,
      acquireTimeoutMs: REPLICA_ACQUIRE_WITHIN_MS,
    },
    (error) => log.debug({ err: error }, "idle replica connection lost"),
  );
  showPool("replica", replica, metrics);
  return new ReplicaReads(
    { lagMaxMs: settings.postgresReplicaLagMaxMs },
    { primary: ledger, replica, log, metrics },
  );
}

/** One look at the configured replica, for people; `undefined` where there is none. */
export async function describeReplica(settings: Settings, ledger: Pool): Promise<string | undefined> {
  if (settings.postgresReplicaUrl === "") return undefined;
  const replica = openPool(
    {
      connectionString: settings.postgresReplicaUrl,
      applicationName: "gridroot command",
      maxConnections: 1,
      acquireTimeoutMs: REPLICA_ACQUIRE_WITHIN_MS,
    },
    () => {},
  );
  const options = { everyMs: REPLICA_ACQUIRE_WITHIN_MS, answerWithinMs: REPLICA_ACQUIRE_WITHIN_MS };
  const lag = new ReplicaLag(options, { primary: ledger, replica, nowMs: () => performance.now() });
  await lag.start(() => {});
  const { lagMs, reason } = lag.state;
  await lag.stop();
  await replica.end();
  return reason ?? (lagMs === undefined ? "behind" : "in step");
}

/** The replica as readiness shows it. Without it the interface works as well, so it is never a reason not to. */
export function replicaReadiness(reads: ReplicaReads): Readiness {
  const { used, lagMs, reason } = reads.state;
  if (used) return { ok: true };
  const why = reason ?? (lagMs === undefined ? "never caught up" : `${Math.round(lagMs)} ms behind`);
  return { ok: true, reason: `reads come from the primary: ${why}` };
}

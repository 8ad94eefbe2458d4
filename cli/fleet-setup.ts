import type { RegistryRecord } from "../domain/metering/registry-records.ts";
import { submitRegistryRecord, submitRegistryRecords } from "../ledger/registry-submission.ts";
import { GridrootError } from "../service/errors.ts";
import { FleetDriver, type Operator } from "../simulators/fleet-driver.ts";
import { DEMO_FAULT_RATES } from "../simulators/faults.ts";
import { commissionRecords, createFleet, type Fleet, INTERVAL_S } from "../simulators/fleet.ts";
import { Schedule } from "../simulators/schedule.ts";
import type { Context } from "./context.ts";
import type { RoleProcess } from "./role-process.ts";

export interface FleetPlan {
  readonly seed: string;
  /** Key of the meters' MQTT secrets. */
  readonly secretKey: string;
  readonly metersPerRegion: number;
  /** The boundary at which the meters are commissioned, unix seconds. */
  readonly start: number;
  readonly intervals: number;
}

/** The simulated meters of all regions of the grid. Throws `fleet-interval` where its interval is not theirs. */
export function plannedFleet(context: Context, plan: FleetPlan): Fleet {
  if (context.grid.intervalLengthS !== INTERVAL_S) {
    throw new GridrootError(
      "fleet-interval",
      `simulated meters report every ${INTERVAL_S} s, the grid file differs`,
    );
  }
  return createFleet({
    ...plan,
    regions: context.grid.regions.map(({ name, utility }) => ({ name, utility })),
  });
}

/** Writes the fleet's registry records and waits until they have taken effect. Idempotent. */
export async function commission(process_: RoleProcess, fleet: Fleet): Promise<void> {
  const submission = await submissionOf(process_);
  const byRegion = Map.groupBy(commissionRecords(fleet), ({ region }) => region);
  await Promise.all(
    [...byRegion].map(([region, records]) => submitRegistryRecords(submission, region, records)),
  );
}

/** The fleet on MQTT connections to this machine's ingest, with all faults on. `lastEnd` bounds a run of a day. */
export async function fleetDriver(
  process_: RoleProcess,
  fleet: Fleet,
  run: { from: number; lastEnd?: number },
): Promise<FleetDriver> {
  const { settings, log } = process_;
  const submission = await submissionOf(process_);
  const operator: Operator = {
    submit: (region: string, record: RegistryRecord) => submitRegistryRecord(submission, region, record),
  };
  const schedule = new Schedule({
    fleet,
    rates: DEMO_FAULT_RATES,
    ...(run.lastEnd === undefined ? {} : { lastEnd: run.lastEnd }),
  });
  const { mqttHost: host, mqttPort: port } = settings;
  return new FleetDriver({ fleet, schedule, host, port, from: run.from }, { operator, log });
}

async function submissionOf(process_: RoleProcess) {
  const [eventLog, ledger] = await Promise.all([process_.eventLog(), process_.ledger()]);
  return { eventLog, pool: ledger, partitionsPerRegion: process_.settings.partitionsPerRegion };
}

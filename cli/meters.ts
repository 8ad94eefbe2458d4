import { createHash, randomBytes, randomUUID } from "node:crypto";
import type { Device, Registers, RegistryRecord } from "../domain/metering/registry-records.ts";
import { isName, upstreamTopic } from "../domain/metering/topics.ts";
import { wh } from "../domain/metering/units.ts";
import { type Meter, findMeter, listMeters } from "../ledger/meters.ts";
import { submitRegistryRecord } from "../ledger/registry-submission.ts";
import { GridrootError } from "../service/errors.ts";
import type { Context } from "./context.ts";
import { type Stores, withStores } from "./stores.ts";
import { isoInstant, parseInstant, unixNowS } from "./times.ts";

interface AddFlags {
  readonly meterId: string;
  readonly region: string;
  readonly account: string;
  readonly servicePoint?: string;
  readonly importWh: string;
  readonly exportWh: string;
  readonly modulusWh: string;
  readonly maxPowerW: number;
  readonly at?: string;
}

/**
 * Commissions a meter: writes the record to the log, waits until the registry shows it, and prints what the meter
 * connects with. The secret is made here and kept by nobody: the registry holds its SHA-256.
 */
export async function addMeter(context: Context, flags: AddFlags): Promise<void> {
  const region = context.grid.regions.find((candidate) => candidate.name === flags.region);
  if (region === undefined) throw invalid("region", flags.region, "is not in the grid file");
  if (!/^0x[0-9a-fA-F]{40}$/.test(flags.account))
    throw invalid("account", flags.account, "is no EVM address");
  const { device, password } = newDevice(flags.meterId, flags);
  const lengthS = context.grid.intervalLengthS;
  const nowS = unixNowS();
  const record: RegistryRecord = {
    type: "commission",
    id: randomUUID(),
    servicePoint: flags.servicePoint ?? flags.meterId,
    at: flags.at === undefined ? nowS - (nowS % lengthS) : parseInstant(flags.at),
    utility: region.utility,
    region: region.name,
    account: flags.account.toLowerCase(),
    device,
  };
  await withStores(context, (stores) => submit(context, stores, region.name, record));
  printAccess(context, { region: region.name, utility: region.utility, meterId: flags.meterId, password });
}

interface SwapFlags {
  readonly meterId: string;
  readonly newMeterId: string;
  readonly finalImportWh: string;
  readonly finalExportWh: string;
  readonly importWh: string;
  readonly exportWh: string;
  readonly modulusWh?: string;
  readonly maxPowerW?: number;
  readonly at?: string;
}

/** Puts another meter in a meter's place, see `SwapRecord`. */
export async function swapMeter(context: Context, flags: SwapFlags): Promise<void> {
  await withStores(context, async (stores) => {
    const old = await activeMeter(stores, flags.meterId);
    const { device, password } = newDevice(flags.newMeterId, {
      importWh: flags.importWh,
      exportWh: flags.exportWh,
      modulusWh: flags.modulusWh ?? String(old.modulusWh),
      maxPowerW: flags.maxPowerW ?? old.maxPowerW,
    });
    await submit(context, stores, old.region, {
      type: "swap",
      id: randomUUID(),
      servicePoint: old.servicePoint,
      at: instantOrNow(flags.at),
      meterId: old.meterId,
      final: registers(flags.finalImportWh, flags.finalExportWh),
      device,
    });
    printAccess(context, { region: old.region, utility: old.utility, meterId: flags.newMeterId, password });
  });
}

interface ResetFlags {
  readonly meterId: string;
  readonly finalImportWh: string;
  readonly finalExportWh: string;
  readonly importWh: string;
  readonly exportWh: string;
  readonly at?: string;
}

/** Closes a meter's register epoch and opens the next, see `ResetRecord`; prints the epoch that it reports from now on. */
export async function resetMeter(context: Context, flags: ResetFlags): Promise<void> {
  await withStores(context, async (stores) => {
    const meter = await activeMeter(stores, flags.meterId);
    await submit(context, stores, meter.region, {
      type: "reset",
      id: randomUUID(),
      servicePoint: meter.servicePoint,
      at: instantOrNow(flags.at),
      meterId: meter.meterId,
      epoch: meter.epoch,
      final: registers(flags.finalImportWh, flags.finalExportWh),
      initial: registers(flags.importWh, flags.exportWh),
    });
    context.print(JSON.stringify({ meterId: meter.meterId, epoch: meter.epoch + 1 }));
  });
}

interface RetireFlags {
  readonly meterId: string;
  readonly finalImportWh: string;
  readonly finalExportWh: string;
  readonly at?: string;
}

/** Ends a service point, see `RetireRecord`. */
export async function retireMeter(context: Context, flags: RetireFlags): Promise<void> {
  await withStores(context, async (stores) => {
    const meter = await activeMeter(stores, flags.meterId);
    await submit(context, stores, meter.region, {
      type: "retire",
      id: randomUUID(),
      servicePoint: meter.servicePoint,
      at: instantOrNow(flags.at),
      meterId: meter.meterId,
      final: registers(flags.finalImportWh, flags.finalExportWh),
    });
    context.print(`${meter.meterId} is retired`);
  });
}

/** Prints the registry, a JSON object a line. */
export async function listAllMeters(context: Context, flags: { region?: string }): Promise<void> {
  await withStores(context, async ({ ledger }) => {
    for (let afterMeterId = ""; ;) {
      const page = await listMeters(ledger, { region: flags.region, afterMeterId, limit: 1000 });
      for (const meter of page) context.print(JSON.stringify(shown(meter)));
      const last = page.at(-1);
      if (last === undefined) return;
      afterMeterId = last.meterId;
    }
  });
}

function shown(meter: Meter): Record<string, unknown> {
  return {
    meterId: meter.meterId,
    region: meter.region,
    utility: meter.utility,
    servicePoint: meter.servicePoint,
    account: meter.account,
    epoch: meter.epoch,
    commissionedAt: isoInstant(meter.commissionedAt),
    ...(meter.retiredAt === undefined ? {} : { retiredAt: isoInstant(meter.retiredAt) }),
    ...(meter.flagged === undefined ? {} : { flagged: meter.flagged }),
  };
}

async function activeMeter(stores: Stores, meterId: string): Promise<Meter> {
  const meter = await findMeter(stores.ledger, meterId);
  if (meter === undefined) throw invalid("meter", meterId, "is not in the registry");
  if (meter.retiredAt !== undefined) throw invalid("meter", meterId, "is retired");
  return meter;
}

async function submit(
  context: Context,
  stores: Stores,
  region: string,
  record: RegistryRecord,
): Promise<void> {
  const { partitionsPerRegion } = context.settings;
  await submitRegistryRecord(
    { eventLog: stores.eventLog, pool: stores.ledger, partitionsPerRegion },
    region,
    record,
  );
}

function newDevice(
  meterId: string,
  flags: { importWh: string; exportWh: string; modulusWh: string; maxPowerW: number },
): { device: Device; password: string } {
  if (!isName(meterId)) throw invalid("meter", meterId, "is no name: 1 to 64 letters, digits, `.`, `_`, `-`");
  const password = randomBytes(24).toString("base64url");
  const device = {
    meterId,
    initial: registers(flags.importWh, flags.exportWh),
    modulusWh: wh(flags.modulusWh),
    maxPowerW: flags.maxPowerW,
    secretSha256: createHash("sha256").update(password).digest("hex"),
  };
  return { device, password };
}

function registers(importWh: string, exportWh: string): Registers {
  for (const value of [importWh, exportWh]) {
    if (!/^\d+$/.test(value)) throw invalid("register", value, "is no whole number of Wh");
  }
  return { importWh: wh(importWh), exportWh: wh(exportWh) };
}

function instantOrNow(at: string | undefined): number {
  return at === undefined ? unixNowS() : parseInstant(at);
}

function printAccess(
  context: Context,
  access: { region: string; utility: string; meterId: string; password: string },
): void {
  const { utility, region, meterId } = access;
  context.print(
    JSON.stringify({
      meterId,
      clientId: meterId,
      username: meterId,
      password: access.password,
      topic: upstreamTopic({ utility, region, meterId, kind: "rd" }),
    }),
  );
}

function invalid(what: string, value: string, why: string): GridrootError {
  return new GridrootError("argument-invalid", `${what} ${value} ${why}`);
}

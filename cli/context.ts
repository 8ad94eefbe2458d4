import type { Logger } from "pino";
import type { Registry } from "prom-client";
import type { EventLog } from "../event-log/event-log.ts";
import type { Settings } from "../service/configuration.ts";
import type { Grid } from "../service/grid.ts";
import type { TimeSeries } from "../time-series/time-series.ts";

/** What a store is opened with. */
export interface StoreDependencies {
  readonly log: Logger;
  readonly metrics: Registry;
}

/** Which adapters a profile uses. Chosen in `adapters.ts` and nowhere else. */
export interface Adapters {
  /** Opens the event log and creates its storage where it is missing. */
  openEventLog(settings: Settings, dependencies: StoreDependencies): Promise<EventLog>;
  /** Opens the time series and creates its storage where it is missing. */
  openTimeSeries(settings: Settings, dependencies: StoreDependencies): Promise<TimeSeries>;
  /** Deletes the topics, groups, buckets and jobs of the namespace on servers that are not PostgreSQL. */
  discardNamespace(settings: Settings, log: Logger): Promise<void>;
}

/** What every command is given. */
export interface Context {
  readonly settings: Settings;
  readonly grid: Grid;
  readonly adapters: Adapters;
  /** The program's main file, forked for roles in processes of their own. */
  readonly mainFile: string;
  /** The part of the environment that a child needs besides settings: PATH, HOME and the like. */
  readonly inheritedEnvironment: Readonly<Record<string, string>>;
  /** Writes one line for people to standard output. */
  readonly print: (line: string) => void;
}

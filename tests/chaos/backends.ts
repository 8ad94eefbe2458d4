import type { Settings } from "../../service/configuration.ts";
import type { Target } from "./targets.ts";

/** The servers of a profile, as a run of chaos has them for itself. */
export interface Backends {
  /** Settings by their environment variables, without those that every profile has. */
  readonly environment: Readonly<Record<string, string>>;
  /** The servers that can be struck, once the machine runs with these settings. */
  targets(settings: Settings): Promise<readonly Target[]>;
  /** Ends every server; after the machine has stopped. */
  stop(): Promise<void>;
}

/** Weights of targets: those that carry every reading are struck twice as often as the others. */
export const ON_THE_WAY = 2;
export const BESIDE_IT = 1;

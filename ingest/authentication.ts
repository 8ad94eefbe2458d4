import { createHash, timingSafeEqual } from "node:crypto";
import type { Logger } from "pino";
import { isName } from "../domain/metering/topics.ts";
import type { Meter } from "../ledger/meters.ts";
import type { Clock } from "../service/clock.ts";
import type { MeterDirectory } from "./meter-directory.ts";
import { within } from "./time-limits.ts";

/** CONNACK return codes that refuse (MQTT 3.1.1, table 3.1). */
export const REFUSAL = {
  identifierRejected: 2,
  serverUnavailable: 3,
  badCredentials: 4,
  notAuthorised: 5,
} as const;
export type Refusal = (typeof REFUSAL)[keyof typeof REFUSAL];

/** What a CONNECT asks for. */
export interface ConnectRequest {
  readonly clientId: string;
  readonly username: string | undefined;
  readonly password: Uint8Array | undefined;
  readonly hasWill: boolean;
}

const NO_SECRET = Buffer.alloc(32);

/**
 * Decides who a client is. It is a meter when user name and client id are the meter's id and the secret's SHA-256 is
 * the registry's. The broker takes sessions over by client id alone, so the two must be equal, or any meter could
 * evict any other.
 */
export class Authenticator {
  readonly #regions: ReadonlySet<string>;
  readonly #lookupTimeoutMs: number;
  readonly #directory: MeterDirectory;
  readonly #clock: Clock;
  readonly #log: Logger;

  constructor(
    options: { regions: readonly string[]; lookupTimeoutMs: number },
    dependencies: { directory: MeterDirectory; clock: Clock; log: Logger },
  ) {
    this.#regions = new Set(options.regions);
    this.#lookupTimeoutMs = options.lookupTimeoutMs;
    this.#directory = dependencies.directory;
    this.#clock = dependencies.clock;
    this.#log = dependencies.log;
  }

  /** The meter, or the code to refuse it with. Does not reject. */
  async authenticate(request: ConnectRequest): Promise<Meter | Refusal> {
    const { clientId, username, password } = request;
    if (username === undefined || password === undefined || !isName(username)) return REFUSAL.badCredentials;
    if (clientId !== username) return REFUSAL.identifierRejected;
    let meter: Meter | undefined;
    try {
      meter = await within(this.#lookupTimeoutMs, "lookup-timeout", this.#directory.find(username));
    } catch (error) {
      this.#log.warn({ err: error, meterId: username }, "registry lookup failed");
      return REFUSAL.serverUnavailable;
    }
    // An unknown meter costs the same comparison, so that time does not tell which ids exist.
    const isSecret = timingSafeEqual(sha256(password), meter?.secretSha256 ?? NO_SECRET);
    if (meter === undefined || !isSecret) return REFUSAL.badCredentials;
    return request.hasWill || !this.maySend(meter) ? REFUSAL.notAuthorised : meter;
  }

  /** Whether the meter is in service, in a region of this deployment. */
  maySend(meter: Meter): boolean {
    const isRetired = meter.retiredAt !== undefined && meter.retiredAt * 1000 <= this.#clock.nowMs();
    return !isRetired && this.#regions.has(meter.region);
  }
}

function sha256(bytes: Uint8Array): Buffer {
  return createHash("sha256").update(bytes).digest();
}

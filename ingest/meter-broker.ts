import { Aedes, type AedesOptions, type AuthenticateError, type Client, type PublishPacket } from "aedes";
import { commandTopic } from "../domain/metering/topics.ts";
import type { ConnectRequest, Refusal } from "./authentication.ts";
import { PacketGate } from "./packet-gate.ts";
import type { PublishHandler } from "./publish-handler.ts";
import type { Session } from "./sessions.ts";
import { SessionStore } from "./session-store.ts";

export interface MeterBrokerDependencies {
  readonly publishes: PublishHandler;
  /** Opens the session of a client that proves to be a meter, or tells the code to refuse it with. Does not reject. */
  openSession(gate: PacketGate, request: ConnectRequest): Promise<Session | Refusal>;
}

interface PendingConnect {
  readonly hasWill: boolean;
  readonly keepaliveS: number;
}

/**
 * Aedes, which speaks MQTT 3.1.1, with Gridroot's rules: who may connect, what may be published and subscribed to,
 * and when an acknowledgement may leave. It delivers nothing that a meter publishes: what was admitted is in the log,
 * and whoever wants it reads it there.
 */
export class MeterBroker extends Aedes {
  readonly #dependencies: MeterBrokerDependencies;
  readonly #connects = new WeakMap<Client, PendingConnect>();
  readonly #sessions = new WeakMap<Client, Session>();

  constructor(dependencies: MeterBrokerDependencies) {
    super({
      // The handler has a limit of its own, which refuses before the append.
      maxInflightInbound: 0,
      persistence: new SessionStore<Client>((client, messageId) => {
        const session = this.#sessions.get(client);
        if (session !== undefined) dependencies.publishes.release(session, messageId);
      }),
    } satisfies AedesOptions);
    this.#dependencies = dependencies;
    this.preConnect = (client, packet, done) => {
      this.#connects.set(client, { hasWill: packet.will !== undefined, keepaliveS: packet.keepalive ?? 0 });
      delete packet.will;
      // Aedes takes MQTT 3.1 as well, and answers any other version than the two with code 1.
      if (packet.protocolVersion === 3) packet.protocolVersion = 5;
      packet.clean = true;
      // The gate counts the silence: the broker's own timer would also count the time in which a publish is held.
      packet.keepalive = 0;
      done(null, true);
    };
    this.authenticate = (client, username, password, done) => {
      void this.#answerConnect(client, username, password, done);
    };
    this.authorizePublish = (client, packet, done) => {
      const session = client === null ? undefined : this.#sessions.get(client);
      if (session === undefined) return done(new Error("only meters publish"));
      packet.retain = false;
      dependencies.publishes.handle(session, packet, done);
    };
    this.authorizeSubscribe = (client, subscription, done) => {
      const meter = this.#sessions.get(client)?.meter;
      const isOwn = meter !== undefined && subscription.topic === commandTopic(meter);
      done(null, isOwn ? subscription : null);
    };
    this.on("clientReady", (client) => {
      gateOf(client).open(this.#connects.get(client)?.keepaliveS ?? 0);
    });
  }

  /**
   * What a meter published ends here. Aedes passes the client as second argument then; its declaration lacks that
   * form.
   */
  override publish(...args: unknown[]): void {
    const [, client, done] = args;
    if (typeof client === "object" && client !== null && typeof done === "function") done(null);
    else super.publish(args[0] as PublishPacket, client as (error?: Error) => void);
  }

  async #answerConnect(
    client: Client,
    username: string | undefined,
    password: Uint8Array | undefined,
    done: (error: AuthenticateError | null, isAllowed: boolean) => void,
  ): Promise<void> {
    const gate = gateOf(client);
    const hasWill = this.#connects.get(client)?.hasWill ?? false;
    const opened = await this.#dependencies.openSession(gate, {
      clientId: client.id,
      username,
      password,
      hasWill,
    });
    if (typeof opened === "number") {
      gate.expectClose("refused");
      done(refusalError(opened), false);
    } else {
      this.#sessions.set(client, opened);
      done(null, true);
    }
  }
}

function gateOf(client: Client): PacketGate {
  const { conn } = client;
  if (!(conn instanceof PacketGate)) throw new TypeError("a client without a gate");
  return conn;
}

function refusalError(returnCode: Refusal): AuthenticateError {
  const error: Error & { returnCode?: number } = new Error("connection refused");
  error.returnCode = returnCode;
  // Aedes declares the codes as an ambient const enum, which cannot be imported where modules are isolated.
  // oxlint-disable-next-line typescript/no-unsafe-enum-assignment
  return error as AuthenticateError;
}

import { Interface } from "ethers/abi";
import type { Hex } from "../domain/settlement/settlement.ts";
import { invariant } from "../service/errors.ts";

/** What `generated/abi.ts` says of a contract. */
export interface AbiTypes {
  readonly constructed: readonly unknown[];
  readonly functions: Readonly<
    Record<string, { readonly given: readonly unknown[]; readonly answered: unknown }>
  >;
  readonly events: Readonly<Record<string, object>>;
  readonly errors: Readonly<Record<string, string>>;
}

/** What the fields of an event have to be; an integer may be a number. */
export type EventFilter<Event> = {
  readonly [Field in keyof Event]?: Event[Field] extends bigint ? number | bigint : Event[Field];
};

/** The parts of a log that tell an event. */
export interface EventLog {
  readonly topics: readonly string[];
  readonly data: string;
}

/**
 * A contract's calls, answers, logs and errors, encoded and decoded by its ABI, checked by types that are generated from
 * the same: a name or a field that the contract does not have is an error of compilation.
 */
export class ContractAbi<Types extends AbiTypes> {
  readonly #interface: Interface;

  constructor(abi: readonly unknown[]) {
    this.#interface = new Interface(JSON.stringify(abi));
  }

  /** The arguments that follow the creation code. */
  encodeConstructed(given: Types["constructed"]): Hex {
    return this.#interface.encodeDeploy(given) as Hex;
  }

  /** The calldata of a call. */
  encode<Name extends keyof Types["functions"] & string>(
    name: Name,
    given: Types["functions"][Name]["given"],
  ): Hex {
    return this.#interface.encodeFunctionData(name, given) as Hex;
  }

  /** What a call answered. Throws ethers' `BAD_DATA` where it was no such answer. */
  decode<Name extends keyof Types["functions"] & string>(
    name: Name,
    answer: string,
  ): Types["functions"][Name]["answered"] {
    const values = this.#interface.decodeFunctionResult(name, answer);
    return (values.length === 1 ? values[0] : values) as Types["functions"][Name]["answered"];
  }

  /** The first 4 bytes of the function's calls. */
  selector(name: keyof Types["functions"] & string): Hex {
    const fragment = this.#interface.getFunction(name);
    invariant(fragment !== null, `no function ${name}`);
    return fragment.selector as Hex;
  }

  /** What `eth_getLogs` takes to find the event; only indexed fields can be asked for. */
  topics<Name extends keyof Types["events"] & string>(
    name: Name,
    filter: EventFilter<Types["events"][Name]> = {},
  ): (null | string | string[])[] {
    const fragment = this.#interface.getEvent(name);
    invariant(fragment !== null, `no event ${name}`);
    const values = filter as Readonly<Record<string, unknown>>;
    return this.#interface.encodeFilterTopics(
      fragment,
      fragment.inputs.map((input) => values[input.name] ?? null),
    );
  }

  /** The event of a log that was found by its topics. */
  event<Name extends keyof Types["events"] & string>(name: Name, log: EventLog): Types["events"][Name] {
    const fields = this.#interface.decodeEventLog(name, log.data, log.topics);
    return fields.toObject() as Types["events"][Name];
  }

  /** What a revert said; `undefined` where it is no error of the contract. */
  error(
    data: string,
  ): { readonly name: keyof Types["errors"] & string; readonly given: readonly unknown[] } | undefined {
    // ethers has no answer for less than a selector, such as the revert of calldata that cannot be decoded.
    const parsed = data.length < 10 ? null : this.#interface.parseError(data);
    return parsed === null ? undefined : { name: parsed.name, given: [...parsed.args] };
  }
}

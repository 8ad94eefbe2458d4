import {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifySchemaCompiler,
  type FastifyTypeProvider,
  type RawServerDefault,
} from "fastify";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Static, TSchema } from "typebox";
import { Compile } from "typebox/compile";
import { badInput } from "./problem.ts";

/** Types of a route's request and reply come from its TypeBox schemas. */
interface TypeBoxProvider extends FastifyTypeProvider {
  validator: this["schema"] extends TSchema ? Static<this["schema"]> : unknown;
  serializer: this["schema"] extends TSchema ? Static<this["schema"]> : unknown;
}

/** A fastify instance whose routes are typed by their schemas. */
export type TypedApp = FastifyInstance<
  RawServerDefault,
  IncomingMessage,
  ServerResponse,
  FastifyBaseLogger,
  TypeBoxProvider
>;

/**
 * Validates requests by their schemas. Texts of addresses and queries are converted to numbers where the schema says
 * so; a body is taken as it is. The first fault is answered as 400 with the field's name.
 */
export const validateBySchema: FastifySchemaCompiler<TSchema> = ({ schema, httpPart }) => {
  const validator = Compile(schema);
  return (data: unknown) => {
    const completed = validator.Default(data);
    const value = httpPart === "body" ? completed : validator.Convert(completed);
    if (validator.Check(value)) return { value };
    const [fault] = validator.Errors(value);
    return { error: badInput(fieldOf(fault, httpPart ?? "request"), fault?.message ?? "is not valid") };
  };
};

type Fault = ReturnType<ReturnType<typeof Compile>["Errors"]>[number];

function fieldOf(fault: Fault | undefined, part: string): string {
  const path = fault?.instancePath.slice(1).replaceAll("/", ".") ?? "";
  if (fault?.keyword !== "required") return path === "" ? part : path;
  const missing = fault.params.requiredProperties[0] ?? "";
  return path === "" ? missing : `${path}.${missing}`;
}

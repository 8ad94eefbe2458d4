import { STATUS_CODES } from "node:http";
import type { FastifyInstance } from "fastify";
import type { Logger } from "pino";
import { Type } from "typebox";
import { GridrootError } from "../service/errors.ts";

/** An error as the client sees it (RFC 9457, `application/problem+json`). */
export const ProblemSchema = Type.Object(
  {
    type: Type.Literal("about:blank"),
    title: Type.String({ description: "Text of the status" }),
    status: Type.Integer(),
    code: Type.String({ description: "Stable code of the error" }),
    detail: Type.String(),
    field: Type.Optional(Type.String({ description: "What of the request is at fault" })),
  },
  { description: "Problem (RFC 9457)" },
);

/** What a route throws to answer with a problem. */
export class Problem extends Error {
  readonly status: number;
  readonly code: string;
  readonly field: string | undefined;

  constructor(status: number, code: string, detail: string, field?: string) {
    super(detail);
    this.name = "Problem";
    this.status = status;
    this.code = code;
    this.field = field;
  }
}

/** 404 with a code that says what is not known. */
export function notFound(code: string, detail: string): Problem {
  return new Problem(404, code, detail);
}

/** 400 that names the field. */
export function badInput(field: string, detail: string): Problem {
  return new Problem(400, "bad-input", detail, field);
}

/**
 * Answers every error of every route as a problem. A dependency that is away is 503 and may be tried again; what
 * nobody foresaw is 500, logged with its cause and answered without it.
 */
export function answerErrorsAsProblems(app: FastifyInstance, log: Logger): void {
  app.setErrorHandler(async (error, request, reply) => {
    const problem = toProblem(error);
    if (problem.status >= 500) {
      log.error({ err: error, method: request.method, route: request.routeOptions.url }, "request failed");
    }
    return reply.code(problem.status).type("application/problem+json").send(bodyOf(problem));
  });
  app.setNotFoundHandler(async (_request, reply) => {
    const problem = notFound("unknown-route", "there is nothing at this address");
    return reply.code(404).type("application/problem+json").send(bodyOf(problem));
  });
}

function bodyOf(problem: Problem): Record<string, unknown> {
  return {
    type: "about:blank",
    title: STATUS_CODES[problem.status] ?? "Error",
    status: problem.status,
    code: problem.code,
    detail: problem.message,
    ...(problem.field !== undefined && { field: problem.field }),
  };
}

function toProblem(error: unknown): Problem {
  if (error instanceof Problem) return error;
  if (error instanceof GridrootError && error.retryable) {
    return new Problem(503, error.code, "a dependency does not answer; try again");
  }
  const { code, statusCode, message } = error as { code?: unknown; statusCode?: unknown; message?: string };
  if (isLedgerAway(code, message ?? "")) {
    return new Problem(503, "ledger-unavailable", "the ledger does not answer; try again");
  }
  // What fastify itself refuses: a body too large, of another type, or not JSON.
  if (typeof statusCode === "number" && statusCode >= 400 && statusCode < 500) {
    return new Problem(statusCode, statusCode === 413 ? "too-large" : "bad-request", message ?? "");
  }
  return new Problem(500, "internal", "the request failed for a reason that was logged");
}

/** A connection that failed or was cut, or a server that starts or stops (SQLSTATE classes 08, 53 and 57P). */
function isLedgerAway(code: unknown, message: string): boolean {
  if (typeof code === "string" && /^(08|53|57P)|^E(CONN|PIPE|TIMEDOUT|AI_)/.test(code)) return true;
  return /^(timeout exceeded when trying to connect|Connection terminated|Client has encountered a connection error)/.test(
    message,
  );
}

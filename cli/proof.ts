import { readFile } from "node:fs/promises";
import { text as readAll } from "node:stream/consumers";
import { chainProvider, settlementClient } from "../contracts/client.ts";
import { parseBundle } from "../domain/settlement/bundle-parsing.ts";
import { type BundleCheck, verifyBundle } from "../domain/settlement/bundle-verification.ts";
import { createHasher } from "../domain/settlement/hasher.ts";
import type { ProofBundle } from "../domain/settlement/proof-bundle.ts";
import { GridrootError } from "../service/errors.ts";
import type { Context } from "./context.ts";
import { parseInstant } from "./times.ts";

/** Prints the proof bundle of an account, or of the account that a meter credits, as the HTTP interface gives it. */
export async function printProof(
  context: Context,
  subject: string,
  flags: { interval?: string },
): Promise<void> {
  const account = /^0x[0-9a-fA-F]{40}$/.test(subject)
    ? subject.toLowerCase()
    : await accountOf(context, subject);
  const query = flags.interval === undefined ? "" : `?interval=${parseInstant(flags.interval)}`;
  const bundle = await getJson(context, `/api/v1/accounts/${account}/proof${query}`);
  context.print(JSON.stringify(bundle, null, 2));
}

async function accountOf(context: Context, meterId: string): Promise<string> {
  const meter = (await getJson(context, `/api/v1/meters/${encodeURIComponent(meterId)}`)) as {
    account: string;
  };
  return meter.account;
}

/** Where the HTTP interface listens, from the settings. */
export function apiUrl(context: Pick<Context, "settings">): string {
  const { apiUrl: configured, httpHost, httpPort } = context.settings;
  return configured === "" ? `http://${httpHost}:${httpPort}` : configured.replace(/\/$/, "");
}

/** GETs a path of the HTTP interface. Rejects with `api-unreachable` or with the code it answered. */
export async function getJson(context: Context, path: string): Promise<unknown> {
  let response: Response;
  try {
    response = await fetch(`${apiUrl(context)}${path}`);
  } catch (cause) {
    throw new GridrootError("api-unreachable", `nothing answers at ${apiUrl(context)}`, {
      cause,
      retryable: true,
    });
  }
  const body = (await response.json()) as { code?: string; message?: string; detail?: string };
  if (!response.ok) {
    throw new GridrootError(
      body.code ?? "api-refused",
      `${path}: ${body.detail ?? body.message ?? response.statusText}`,
    );
  }
  return body;
}

/**
 * Checks a bundle from a file or standard input: offline, and against the contract's own record and authority set
 * where an endpoint is given. Prints a line for each check; whether all passed.
 */
export async function verifyProof(context: Context, file: string, flags: { rpc?: string }): Promise<boolean> {
  const bundle = parseBundle(file === "-" ? await readAll(process.stdin) : await readFile(file, "utf8"));
  const hasher = await createHasher();
  const checks =
    flags.rpc === undefined ? verifyBundle(hasher, bundle) : await verifyAgainstChain(bundle, flags.rpc);
  for (const check of checks)
    context.print(`${check.passed ? "ok  " : "FAIL"} ${check.name}: ${check.detail}`);
  if (flags.rpc === undefined) context.print("not checked: that the contract holds this record (give --rpc)");
  return checks.every((check) => check.passed);
}

interface ChainCheck extends Omit<BundleCheck, "name"> {
  readonly name: BundleCheck["name"] | "on-chain";
}

async function verifyAgainstChain(bundle: ProofBundle, rpcUrl: string): Promise<readonly ChainCheck[]> {
  const provider = chainProvider(rpcUrl, bundle.domain.chainId);
  try {
    const client = settlementClient(bundle.domain.verifyingContract, provider);
    const set = await client.readAuthoritySet();
    const held = await client.verifyOnChain(
      bundle.settlement.region,
      bundle.record,
      bundle.leaf,
      bundle.siblings,
    );
    const offline = verifyBundle(await createHasher(), bundle, {
      addresses: set.members,
      threshold: set.threshold,
    });
    const detail = held
      ? `contract ${bundle.domain.verifyingContract} holds the record and accepts the path`
      : `contract ${bundle.domain.verifyingContract} does not hold the record or refuses the path`;
    return [...offline, { name: "on-chain", passed: held, detail }];
  } finally {
    provider.destroy();
  }
}

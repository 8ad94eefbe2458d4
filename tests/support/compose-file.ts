import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";

/** A service of deploy/compose/compose.yaml, as far as the tests look at it. */
export interface ComposeService {
  readonly image: string;
  readonly command?: readonly string[];
  readonly user?: string;
  readonly privileged?: boolean;
  readonly read_only?: boolean;
  readonly restart: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly healthcheck: { readonly test?: readonly string[]; readonly disable?: boolean };
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>;
  readonly deploy: {
    readonly resources: {
      readonly limits: { readonly cpus: string; readonly memory: string; readonly pids: number };
    };
  };
  readonly cap_drop?: readonly string[];
  readonly security_opt?: readonly string[];
  readonly secrets?: readonly (string | { readonly source: string; readonly target: string })[];
  readonly volumes?: readonly string[];
}

export interface ComposeFile {
  readonly services: Readonly<Record<string, ComposeService>>;
  readonly volumes: Readonly<Record<string, unknown>>;
  readonly secrets: Readonly<Record<string, { readonly file: string }>>;
}

/** Folder of the compose file. */
export const COMPOSE_FOLDER = fileURLToPath(new URL("../../deploy/compose/", import.meta.url));

/** The file with its anchors and merges resolved, as Compose reads it before it fills in variables. */
export function readComposeFile(): ComposeFile {
  const text = readFileSync(`${COMPOSE_FOLDER}compose.yaml`, "utf8");
  const file = parse(text, { merge: true }) as { services: Record<string, { environment?: unknown }> };
  for (const service of Object.values(file.services)) service.environment ??= {};
  return file as unknown as ComposeFile;
}

/** The services that run Gridroot's own image. */
export function ownServices(file: ComposeFile): readonly (readonly [string, ComposeService])[] {
  return Object.entries(file.services).filter(([, { image }]) => image.startsWith("gridroot:"));
}

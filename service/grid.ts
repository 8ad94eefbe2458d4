import { readFile } from "node:fs/promises";
import { Type, type Static } from "typebox";
import { Value } from "typebox/value";
import { GridrootError } from "./errors.ts";

const Name = Type.String({ pattern: "^[a-z][a-z0-9-]{0,31}$" });

const GridSchema = Type.Object(
  {
    name: Type.String(),
    timeZone: Type.String(),
    intervalLengthS: Type.Integer({ minimum: 60, maximum: 86_400 }),
    threshold: Type.Integer({ minimum: 1, maximum: 64 }),
    authorities: Type.Array(
      Type.Object({ name: Name, title: Type.String() }, { additionalProperties: false }),
      {
        minItems: 1,
        maxItems: 64,
      },
    ),
    regions: Type.Array(
      Type.Object(
        {
          regionId: Type.Integer({ minimum: 1, maximum: 0xffff_ffff }),
          name: Name,
          utility: Name,
          capWh: Type.String({ pattern: "^[1-9][0-9]{0,17}$" }),
        },
        { additionalProperties: false },
      ),
      { minItems: 1, maxItems: 1000 },
    ),
  },
  { additionalProperties: false },
);

/** A region as configured. `capWh` is the most credit one interval may bring. */
export interface GridRegion {
  readonly regionId: number;
  readonly name: string;
  readonly utility: string;
  readonly capWh: bigint;
}

/** What the grid file says: the market, not the machine. */
export interface Grid extends Omit<Static<typeof GridSchema>, "regions"> {
  readonly regions: readonly GridRegion[];
}

/** Reads and checks a grid file. Throws `grid-invalid` that lists every fault. */
export async function readGrid(file: string | URL): Promise<Grid> {
  const parsed = await readJson(file);
  const faults = Value.Errors(GridSchema, parsed).map(
    (error) => `${error.instancePath || "/"}: ${error.message}`,
  );
  if (faults.length > 0) throw invalid(file, faults);
  const raw = parsed as Static<typeof GridSchema>;
  const grid = {
    ...raw,
    regions: raw.regions.map((region) => ({ ...region, capWh: BigInt(region.capWh) })),
  };
  const broken = relations(grid);
  if (broken.length > 0) throw invalid(file, broken);
  return grid;
}

async function readJson(file: string | URL): Promise<unknown> {
  try {
    return JSON.parse(await readFile(file, "utf8"));
  } catch (cause) {
    throw new GridrootError("grid-invalid", `${String(file)}: ${(cause as Error).message}`, { cause });
  }
}

function relations(grid: Grid): string[] {
  const faults: string[] = [];
  if (grid.threshold > grid.authorities.length) faults.push("/threshold: more than there are authorities");
  if (86_400 % grid.intervalLengthS !== 0) faults.push("/intervalLengthS: a day is no multiple of it");
  if (!unique(grid.regions.map((region) => region.name))) faults.push("/regions: a name stands twice");
  if (!unique(grid.regions.map((region) => region.regionId)))
    faults.push("/regions: a regionId stands twice");
  if (!unique(grid.authorities.map((authority) => authority.name)))
    faults.push("/authorities: a name stands twice");
  return faults;
}

function unique(values: readonly unknown[]): boolean {
  return new Set(values).size === values.length;
}

function invalid(file: string | URL, faults: readonly string[]): GridrootError {
  return new GridrootError("grid-invalid", `${String(file)}:\n${faults.join("\n")}`);
}

import { readFileSync } from "node:fs";
import { GridrootError } from "./errors.ts";
import type { Setting } from "./settings.ts";

/** What follows a setting's name where the environment names a file that holds its value. */
export const FILE_SUFFIX = "_FILE";

/**
 * The environment with each `<SETTING>_FILE` replaced by the setting with the content of that file, less line ends at
 * its end: secrets come as files where an environment could be looked at. An empty name of a file is none. Throws one
 * `settings-invalid` that names every file that cannot be read and every setting that is given twice; contents are
 * never repeated.
 */
export function withSettingFiles(
  settings: Readonly<Record<string, Setting<unknown>>>,
  environment: Readonly<NodeJS.Dict<string>>,
): NodeJS.Dict<string> {
  const resolved: NodeJS.Dict<string> = { ...environment };
  const faults: string[] = [];
  const names = Object.values(settings).map(({ name }) => name);
  for (const name of names.filter((one) => !names.includes(`${one}${FILE_SUFFIX}`))) {
    const variable = `${name}${FILE_SUFFIX}`;
    const file = environment[variable];
    if (file === undefined) continue;
    delete resolved[variable];
    if (file === "") continue;
    if (environment[name] !== undefined) {
      faults.push(`${variable}: ${name} is set as well`);
      continue;
    }
    try {
      resolved[name] = readFileSync(file, "utf8").replace(/[\r\n]+$/, "");
    } catch (cause) {
      faults.push(`${variable}: ${(cause as Error).message}`);
    }
  }
  if (faults.length > 0) throw new GridrootError("settings-invalid", faults.join("\n"));
  return resolved;
}

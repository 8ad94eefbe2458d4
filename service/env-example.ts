// `npm run env:example`: writes .env.example from the settings' declarations.
import { writeFile } from "node:fs/promises";
import { SETTINGS } from "./configuration.ts";
import { exampleEnvironment } from "./settings.ts";

await writeFile(new URL("../.env.example", import.meta.url), exampleEnvironment(SETTINGS));

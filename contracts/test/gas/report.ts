import { claimFigures } from "./claims.ts";
import { postFigures } from "./posts.ts";

/** Prints what the contract's transactions cost as a JSON array of `{name, gas, goal, total}`. */
const figures = [...(await postFigures()), ...(await claimFigures())];
process.stdout.write(`${JSON.stringify(figures, undefined, 1)}\n`);

import { GridrootError } from "./errors.ts";

/**
 * A setting, declared once: the declaration validates the environment, documents itself in `.env.example` and says
 * whether its value may be shown.
 */
export interface Setting<T> {
  /** Environment variable. The unit, where there is one, ends the name. */
  readonly name: string;
  /** What it is, in one sentence. */
  readonly sentence: string;
  readonly secret: boolean;
  /** The default as it would be written in the environment. */
  readonly fallback: string;
  /** Allowed values, for people. */
  readonly form: string;
  /** Throws an `Error` that says what is wrong with the text, without repeating a secret. */
  parse(text: string): T;
}

type Value<S> = S extends Setting<infer T> ? T : never;

/** The values of a set of settings. */
export type Values<S extends Readonly<Record<string, Setting<unknown>>>> = {
  readonly [K in keyof S]: Value<S[K]>;
};

interface Declaration<T> {
  readonly name: string;
  readonly sentence: string;
  readonly default: T;
}

/** A whole number between `min` and `max`. */
export function integer(declaration: Declaration<number> & { min: number; max: number }): Setting<number> {
  const { min, max } = declaration;
  return {
    ...described(declaration),
    form: `${min}..${max}`,
    parse(text) {
      const value = Number(text);
      if (!/^-?\d+$/.test(text) || value < min || value > max) {
        throw new Error(`expected a whole number from ${min} to ${max}, got ${JSON.stringify(text)}`);
      }
      return value;
    },
  };
}

/** Any text; empty means that it is not set. */
export function text(declaration: Declaration<string>): Setting<string> {
  return { ...described(declaration), form: "text", parse: (value) => value };
}

/** A text that is never shown. It has no default. */
export function secret(declaration: Omit<Declaration<string>, "default">): Setting<string> {
  return {
    ...described({ ...declaration, default: "" }),
    secret: true,
    form: "secret text",
    parse: (value) => value,
  };
}

/** One of a few words. */
export function choice<const T extends string>(
  declaration: Declaration<NoInfer<T>> & { of: readonly T[] },
): Setting<T> {
  return {
    ...described(declaration),
    form: declaration.of.join(" | "),
    parse(value) {
      const found = declaration.of.find((candidate) => candidate === value);
      if (found === undefined) {
        throw new Error(`expected ${declaration.of.join(" or ")}, got ${JSON.stringify(value)}`);
      }
      return found;
    },
  };
}

/** A URL with one of the given schemes; empty means that it is not set. */
export function url(declaration: Declaration<string> & { schemes: readonly string[] }): Setting<string> {
  const { schemes } = declaration;
  return {
    ...described(declaration),
    form: schemes.map((scheme) => `${scheme}://...`).join(" | "),
    parse(value) {
      if (value === "") return value;
      const scheme = URL.canParse(value) ? new URL(value).protocol.slice(0, -1) : undefined;
      // The value is not repeated: connection strings carry passwords.
      if (scheme === undefined || !schemes.includes(scheme)) {
        throw new Error(`expected a URL that begins with ${schemes.map((one) => `${one}://`).join(" or ")}`);
      }
      return value;
    },
  };
}

function described<T>(declaration: Declaration<T>) {
  const { name, sentence } = declaration;
  return { name, sentence, secret: false, fallback: String(declaration.default) };
}

/**
 * Reads all settings from an environment. Throws one `settings-invalid` that names every faulty setting, and every
 * variable with Gridroot's prefix that is none: a misspelt name would otherwise be silently ignored.
 */
export function readSettings<S extends Readonly<Record<string, Setting<unknown>>>>(
  settings: S,
  environment: Readonly<Record<string, string | undefined>>,
  prefix: string,
): Values<S> {
  const faults: string[] = [];
  const values: Record<string, unknown> = {};
  for (const [key, setting] of Object.entries(settings)) {
    try {
      values[key] = setting.parse(environment[setting.name] ?? setting.fallback);
    } catch (cause) {
      faults.push(`${setting.name}: ${(cause as Error).message}`);
    }
  }
  const known = new Set(Object.values(settings).map((setting) => setting.name));
  for (const name of Object.keys(environment)) {
    if (name.startsWith(prefix) && !known.has(name)) faults.push(`${name}: there is no such setting`);
  }
  if (faults.length > 0) throw new GridrootError("settings-invalid", faults.join("\n"));
  return values as Values<S>;
}

/** Values fit to be logged: secrets and the passwords in URLs are hidden, what is not set is left out. */
export function redacted<S extends Readonly<Record<string, Setting<unknown>>>>(
  settings: S,
  values: Values<S>,
): Record<string, unknown> {
  const shown = Object.entries(settings).map(([key, setting]) => {
    const value = values[key];
    if (setting.secret && value !== "") return [setting.name, "(set)"];
    if (typeof value === "string" && URL.canParse(value)) return [setting.name, withoutPassword(value)];
    return [setting.name, value];
  });
  return Object.fromEntries(shown.filter(([, value]) => value !== ""));
}

function withoutPassword(value: string): string {
  const parsed = new URL(value);
  if (parsed.password !== "") parsed.password = "hidden";
  return parsed.href;
}

/** The text of `.env.example`: every setting with its sentence, form and default, commented out. */
export function exampleEnvironment(settings: Readonly<Record<string, Setting<unknown>>>): string {
  const entries = Object.values(settings).map(
    ({ name, sentence, form, fallback }) => `# ${sentence}\n# ${form}\n# ${name}=${fallback}\n`,
  );
  return [
    "# Generated by `npm run env:example`. Every setting of Gridroot with its default.\n",
    ...entries,
  ].join("\n");
}

/** The environment that reads back as these values: what a child process is given. */
export function environmentOf<S extends Readonly<Record<string, Setting<unknown>>>>(
  settings: S,
  values: Values<S>,
): Record<string, string> {
  return Object.fromEntries(Object.entries(settings).map(([key, { name }]) => [name, String(values[key])]));
}

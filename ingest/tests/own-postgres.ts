import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { EmbeddedPostgres } from "../../service/embedded-postgres.ts";
import { until } from "../../tests/support/until.ts";

/** A PostgreSQL server of a test's own, on a port that it keeps, to be paused, killed and started again. */
export class OwnPostgres {
  readonly #server: EmbeddedPostgres;
  readonly #folder: string;
  #postmaster = 0;

  private constructor(server: EmbeddedPostgres, folder: string) {
    this.#server = server;
    this.#folder = folder;
  }

  static async start(): Promise<OwnPostgres> {
    const folder = await mkdtemp(join(tmpdir(), "gridroot-outage-"));
    await chmod(folder, 0o755);
    const probe = createServer().listen(0, "127.0.0.1");
    await once(probe, "listening");
    const { port } = probe.address() as AddressInfo;
    probe.close();
    await once(probe, "close");
    const server = new EmbeddedPostgres({
      dataDir: join(folder, "postgres"),
      port,
      postgresFlags: ["-c", "fsync=off"],
    });
    const own = new OwnPostgres(server, folder);
    await own.restart();
    return own;
  }

  get url(): string {
    return this.#server.url;
  }

  async restart(): Promise<void> {
    await this.#server.start();
    const client = new pg.Client({ connectionString: this.url });
    await client.connect();
    const { rows } = await client.query<{ data_directory: string }>("show data_directory");
    await client.end();
    const pidFile = join(rows[0]!.data_directory, "postmaster.pid");
    this.#postmaster = Number(readFileSync(pidFile, "utf8").split("\n")[0]);
  }

  /** Stops the server's time: it neither answers nor closes connections. */
  pause(): void {
    this.#signal("SIGSTOP");
  }

  resume(): void {
    this.#signal("SIGCONT");
  }

  /** `kill -9` of the whole server. */
  async kill(): Promise<void> {
    const processes = this.#processes();
    this.#signal("SIGKILL");
    await until("the server is gone", () => processes.every((pid) => !isAlive(pid)));
  }

  async stop(): Promise<void> {
    // A test that failed may have left it paused.
    this.resume();
    await this.#server.stop();
    await rm(this.#folder, { recursive: true, force: true });
  }

  #signal(signal: NodeJS.Signals): void {
    for (const pid of this.#processes()) {
      try {
        process.kill(pid, signal);
      } catch (error) {
        // A backend may have ended since it was listed.
        if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
      }
    }
  }

  #processes(): number[] {
    const children = readdirSync("/proc")
      .filter((name) => /^\d+$/.test(name) && parentOf(name) === this.#postmaster)
      .map(Number);
    return [this.#postmaster, ...children];
  }
}

/** Field 4 of `/proc/{pid}/stat`, after the name in parentheses. */
function statOf(pid: string | number): string[] {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    return text.slice(text.lastIndexOf(")") + 2).split(" ");
  } catch {
    return [];
  }
}

function parentOf(pid: string): number | undefined {
  const parent = statOf(pid)[1];
  return parent === undefined ? undefined : Number(parent);
}

function isAlive(pid: number): boolean {
  const [state] = statOf(pid);
  return state !== undefined && state !== "Z";
}

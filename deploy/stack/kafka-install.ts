import { randomBytes } from "node:crypto";
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { installOnce, runToEnd } from "./install.ts";
import { brokerDefinition } from "./kafka-broker.ts";
import { NativeProcess } from "./native-server.ts";
import { freePort } from "./ports.ts";
import { MAVEN, findProgram } from "./programs.ts";
import { VERSIONS } from "./versions.ts";

const RECIPE = fileURLToPath(new URL("kafka/pom.xml", import.meta.url));

/**
 * Arguments of Java that bring Kafka's classes, and an archive of what it makes of them at a start; fetched from Maven
 * Central and made where the cache does not have them yet.
 *
 * With the archive a broker is up for a third of the processor's time. Java does without one that is not its own.
 *
 * @throws GridrootError `program-missing`: Maven is not installed.
 */
export async function installKafka(): Promise<readonly string[]> {
  const classPath = ["-cp", await classPathOf(await installJars())];
  const folder = await installOnce(
    "kafka-classes",
    VERSIONS.kafka,
    "written by a first start of Kafka",
    (unfinished) => archiveClasses(unfinished, classPath),
  );
  return [...classPath, `-XX:SharedArchiveFile=${join(folder, "classes.jsa")}`];
}

async function installJars(): Promise<string> {
  return installOnce("kafka", VERSIONS.kafka, "45 jars from Maven Central, 43 MB", async (folder) => {
    await runToEnd(findProgram(MAVEN), [
      ...["--batch-mode", "--quiet", "--file", RECIPE],
      `org.apache.maven.plugins:maven-dependency-plugin:${VERSIONS.mavenDependencyPlugin}:copy-dependencies`,
      ...[`-Dkafka.version=${VERSIONS.kafka}`, `-Dlog4j.version=${VERSIONS.log4j}`],
      `-DoutputDirectory=${folder}`,
    ]);
  });
}

/** In a fixed order: an archive belongs to one. */
async function classPathOf(folder: string): Promise<string> {
  const jars = (await readdir(folder)).filter((name) => name.endsWith(".jar")).sort();
  return jars.map((name) => join(folder, name)).join(":");
}

async function archiveClasses(folder: string, classPath: readonly string[]): Promise<void> {
  const dataDir = join(folder, "broker");
  const node = { id: 1, port: await freePort(), controllerPort: await freePort(), dataDir };
  const definition = brokerDefinition({
    node,
    nodes: [node],
    clusterId: newClusterId(),
    classes: async () => classPath,
    isShortLived: true,
  });
  const broker = new NativeProcess({
    ...definition,
    // It writes the archive when it ends.
    stopWithinMs: 180_000,
    async prepare() {
      const { command, args } = await definition.prepare();
      return { command, args: [`-XX:ArchiveClassesAtExit=${join(folder, "classes.jsa")}`, ...args] };
    },
  });
  await broker.start();
  await broker.stop();
  await rm(dataDir, { recursive: true });
}

/** Kafka names a cluster by 16 bytes in base64url. */
export function newClusterId(): string {
  // The first of its characters is no hyphen, which the format tool would take for an option.
  return Buffer.concat([Buffer.from([0]), randomBytes(15)]).toString("base64url");
}

// The image's health check: asks the probe of the process that this container runs (GRIDROOT_PROBE_PORT).
const port = process.env.GRIDROOT_PROBE_PORT ?? "";
try {
  const response = await fetch(`http://127.0.0.1:${port}/ready`, { signal: AbortSignal.timeout(3000) });
  process.exit(response.ok ? 0 : 1);
} catch {
  process.exit(1);
}

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { wh } from "../../domain/metering/units.ts";
import { refusalOf } from "../refusals.ts";
import type { SeriesPoint } from "../time-series.ts";
import { INFLUX_LIMITS, PRESENT, isWide, placeOf, pointLine } from "./line-protocol.ts";

const SEED = 20_261_121;
const INT32_MAX = 2 ** 31 - 1;

/** Names as meters and regions may have them, and texts that would end a tag, a line or a field if they got in. */
const name = fc.oneof(
  { weight: 6, arbitrary: fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/) },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      ...["m 1", "m,epoch=9", "m=1", 'm"', "m\\", "m\nreading,meter=x a=1i 1", "m\t", "", "é", "m#"],
    ),
  },
  { weight: 1, arbitrary: fc.string() },
);

const point: fc.Arbitrary<SeriesPoint> = fc.record(
  {
    region: name,
    meterId: name,
    epoch: fc.oneof(fc.integer({ min: 0, max: 255 }), fc.integer()),
    seq: fc.oneof(fc.integer({ min: 0, max: 20_000_000_000 }), fc.maxSafeInteger()),
    t: fc.oneof(fc.integer({ min: 1, max: 9_223_372_034 }), fc.maxSafeInteger()),
    importWh: fc.maxSafeInteger().map((value) => wh(Math.abs(value))),
    exportWh: fc.maxSafeInteger().map((value) => wh(Math.abs(value))),
    powerW: fc.integer({ min: -INT32_MAX, max: INT32_MAX }),
    voltageDv: fc.integer({ min: 0, max: INT32_MAX }),
    frequencyMhz: fc.integer({ min: 0, max: INT32_MAX }),
    status: fc.integer({ min: 0, max: INT32_MAX }),
  },
  { requiredKeys: ["region", "meterId", "epoch", "seq", "t", "importWh", "exportWh", "status"] },
);

/** What InfluxDB reads in a line in which nothing is escaped or quoted. */
function decode(line: string): SeriesPoint {
  const [head = "", fields = "", time = "", ...rest] = line.split(" ");
  assert.deepEqual(rest, []);
  const [measurement, ...tags] = head.split(",").map((part) => part.split("="));
  const tag = new Map(tags as [string, string][]);
  const field = new Map(
    fields.split(",").map((part) => {
      const [key = "", value = ""] = part.split("=");
      assert.match(value, /^-?\d+i$/);
      return [key, BigInt(value.slice(0, -1))] as const;
    }),
  );
  assert.deepEqual([...field.keys()], [...field.keys()].toSorted());
  assert.ok(BigInt(time) < 2n ** 63n - 1n);
  const seq = Number(field.get("seq"));
  const nanosecond = BigInt(time) % 1_000_000_000n;
  assert.equal(nanosecond, BigInt(seq) % 1_000_000_000n);
  assert.deepEqual(measurement, ["reading"]);
  assert.deepEqual([...tag.keys()], ["epoch", "lap", "meter", "region"]);
  assert.equal(tag.get("lap"), isWide({ seq }) ? "wide" : String(Math.floor(seq / 1e9)));
  const has = (bit: number) => (Number(field.get("present")) & bit) !== 0;
  const optional = (key: string, bit: number) => (has(bit) ? Number(field.get(key)) : undefined);
  const [powerW, voltageDv] = [
    optional("power_w", PRESENT.powerW),
    optional("voltage_dv", PRESENT.voltageDv),
  ];
  const frequencyMhz = optional("frequency_mhz", PRESENT.frequencyMhz);
  return {
    region: tag.get("region")!,
    meterId: tag.get("meter")!,
    epoch: Number(tag.get("epoch")),
    seq,
    t: Number(BigInt(time) / 1_000_000_000n),
    importWh: wh(field.get("import_wh")!),
    exportWh: wh(field.get("export_wh")!),
    ...(powerW === undefined ? {} : { powerW }),
    ...(voltageDv === undefined ? {} : { voltageDv }),
    ...(frequencyMhz === undefined ? {} : { frequencyMhz }),
    status: Number(field.get("status")),
  };
}

test("a point is refused, or is one line that says exactly what the point says", () => {
  let lines = 0;
  fc.assert(
    fc.property(point, (candidate) => {
      if (refusalOf(candidate, INFLUX_LIMITS) !== undefined) return;
      lines += 1;
      const line = pointLine(candidate, placeOf(candidate));
      assert.doesNotMatch(line, /[\n\r\t"\\]/);
      assert.deepEqual(decode(line), { ...candidate });
    }),
    { seed: SEED, numRuns: 5_000 },
  );
  assert.ok(lines > 200, `only ${lines} of the cases were lines`);
});

test("what a line cannot carry is refused", () => {
  const good: SeriesPoint = {
    ...{ region: "r", meterId: "m", epoch: 0, seq: 0, t: 1 },
    ...{ importWh: wh(0), exportWh: wh(0), status: 0 },
  };
  const cases: [Partial<SeriesPoint>, string | undefined][] = [
    [{}, undefined],
    [{ t: INFLUX_LIMITS.maxT }, undefined],
    [{ t: INFLUX_LIMITS.maxT + 1 }, "t-out-of-range"],
    [{ t: 0 }, "t-out-of-range"],
    [{ epoch: INFLUX_LIMITS.maxEpoch }, undefined],
    [{ epoch: INFLUX_LIMITS.maxEpoch + 1 }, "out-of-range"],
    [{ meterId: "m 1" }, "name"],
    [{ region: "r,epoch=1" }, "name"],
    [{ meterId: "m\nx" }, "name"],
    [{ powerW: -INT32_MAX - 1 }, "out-of-range"],
  ];
  for (const [change, reason] of cases)
    assert.equal(refusalOf({ ...good, ...change }, INFLUX_LIMITS), reason, JSON.stringify(change));
});

test("two readings lie at one place only where meter, epoch and second are the same and wide seqs differ by 10^9", () => {
  const at = (fields: Partial<SeriesPoint>) => {
    const { series, time } = placeOf({
      ...{ region: "r", meterId: "m", epoch: 0, seq: 1, t: 5 },
      ...{ importWh: wh(0), exportWh: wh(0), status: 0 },
      ...fields,
    });
    return `${series} ${time}`;
  };
  const laps = Array.from({ length: 17 }, (_, lap) => ({ seq: lap * 1_000_000_000 + 1 }));
  const places = [...laps, { seq: 2 }, { epoch: 1 }, { t: 6 }, { meterId: "n" }, { region: "s" }].map(at);
  assert.equal(new Set(places).size, places.length);
  assert.equal(at({ seq: 16_000_000_001 }), at({ seq: 17_000_000_001 }));
});

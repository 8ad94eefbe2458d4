import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { localDay, localInstant } from "./calendar.ts";
import { highestQuarterWh, irradianceOfDayWm2, LOAD_PROFILES, loadOfDayWh } from "./profiles.ts";

const JANUARY_FIRST_2025 = Date.UTC(2025, 0, 1) / 86_400_000;
const YEAR = Array.from({ length: 365 }, (_, day) => localDay(JANUARY_FIRST_2025 + day));

function sum(values: Iterable<number>): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}

for (const profile of LOAD_PROFILES) {
  test(`a year of ${profile} is 1,000 kWh, as it is normalised`, () => {
    const kwh = sum(YEAR.map((day) => sum(loadOfDayWh(profile, day)))) / 1000;
    assert.ok(Math.abs(kwh - 1000) < 25, `${kwh} kWh`);
    const highest = Math.max(...YEAR.flatMap((day) => [...loadOfDayWh(profile, day)]));
    assert.ok(highestQuarterWh(profile) >= highest);
  });
}

test("quarter hours of irradiance hold the year's sum of the hourly file, and the sun stands highest at noon", () => {
  const rows = readFileSync(new URL("./profiles/irradiance-tmy3-723170.csv", import.meta.url), "utf8")
    .split("\n")
    .slice(2)
    .filter((row) => row !== "");
  const hourly = sum(rows.map((row) => Number(row.split(",")[1])));
  const days = YEAR.map(irradianceOfDayWm2);
  assert.equal(Math.round(sum(days.map((day) => sum(day))) / 4), hourly);
  const meanOf = (quarter: number): number => sum(days.map((day) => day[quarter] ?? 0)) / 365;
  const highest =
    Array.from({ length: 96 }, (_, quarter) => quarter).sort((a, b) => meanOf(b) - meanOf(a))[0] ?? 0;
  assert.ok(highest >= 47 && highest <= 51, `quarter ${highest}`);
  assert.equal(meanOf(4), 0);
});

test("local days follow the utility's zone, and a leap day is like the day before", () => {
  const newYear = Date.UTC(2026, 11, 31, 17) / 1000;
  assert.deepEqual(localInstant(newYear, 25_200), { dayNumber: 20_819, secondOfDay: 0 });
  assert.equal(localInstant(newYear - 1, 25_200).secondOfDay, 86_399);
  const day = (...date: [number, number, number]): ReturnType<typeof localDay> =>
    localDay(Date.UTC(...date) / 86_400_000);
  assert.deepEqual(day(2026, 10, 21), { month: 10, dayOfYear: 325, dayType: "saturday" });
  assert.deepEqual(day(2026, 10, 22), { month: 10, dayOfYear: 326, dayType: "sundayOrHoliday" });
  assert.deepEqual(day(2028, 1, 29), { month: 1, dayOfYear: 59, dayType: "workday" });
  assert.equal(day(2028, 11, 31).dayOfYear, 365);
});

export type Range = [low: number, high: number];

/** No value. */
export const EMPTY: Range = [Infinity, -Infinity];

/** A range of steps that isn't empty: a single step gets room on both sides. */
export function widened(low: number, high: number): Range {
  if (low > high) {
    return [0, 1];
  }
  return high > low ? [low, high] : [low - 0.5, low + 0.5];
}

/** From the lowest to the highest of these ranges. */
export function union(ranges: readonly Range[]): Range {
  return [Math.min(EMPTY[0], ...ranges.map(([low]) => low)), Math.max(EMPTY[1], ...ranges.map(([, high]) => high))];
}

/** The range of a y axis: the values with a little room; a flat line lies in the middle. */
export function valueRange([low, high]: Range): Range {
  if (low > high) {
    return [0, 1];
  }
  const room = high > low ? 0.06 * (high - low) : 0.1 * Math.abs(high) || 0.5;
  return [low - room, high + room];
}

export function isOutside(all: Range, shown: Range): boolean {
  return all[0] < shown[0] || all[1] > shown[1];
}

/** Fewer values have no outliers. */
const FEWEST = 20;
/** What share of the values may lie outside, at each end. */
const SHARE = 0.05;
/** How many times as high all values must be as those without outliers, or no value is one. */
const CONTRAST = 4;

/**
 * The lowest and highest value of a curve without its outliers: an early spike doesn't flatten the rest. They are
 * those of all values unless a few stretch the range to a multiple. The values are those drawn, so a few for each pixel.
 */
export function robustExtremes(values: readonly (number | null)[], share = SHARE): Range {
  let [low, high] = EMPTY;
  for (const value of values) {
    if (value !== null) {
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
  }
  const finite = share === 0 ? [] : values.filter(value => value !== null);
  if (finite.length < FEWEST) {
    return [low, high];
  }
  const sorted = Float64Array.from(finite).sort();
  const at = (part: number): number => sorted[Math.round(part * (sorted.length - 1))] ?? NaN;
  const [lower, upper] = [at(share), at(1 - share)];
  const room = 0.5 * (upper - lower);
  const inner: Range = [Math.max(low, lower - room), Math.min(high, upper + room)];
  return upper > lower && high - low >= CONTRAST * (inner[1] - inner[0]) ? inner : [low, high];
}

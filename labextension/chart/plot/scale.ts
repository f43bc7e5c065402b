export type Range = [low: number, high: number];

/** The range of an x axis over sorted steps; a single step gets room on both sides. */
export function stepRange(x: Float64Array): Range {
  const low = x[0] ?? 0;
  const high = x[x.length - 1] ?? 1;
  return high > low ? [low, high] : [low - 0.5, low + 0.5];
}

/** The range of a y axis: the values with a little room; a flat line lies in the middle. */
export function valueRange(values: readonly (number | null)[]): Range {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (value !== null) {
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
  }
  if (low > high) {
    return [0, 1];
  }
  const room = high > low ? 0.06 * (high - low) : 0.1 * Math.abs(high) || 0.5;
  return [low - room, high + room];
}

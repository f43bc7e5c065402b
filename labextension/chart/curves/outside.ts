import { formatStep, formatValue } from '../format';
import { lowerBound } from '../plot/decimate';
import type { Shown } from '../plot/plot';
import type { Columns } from '../plot/series';

/** Which points of a curve lie above or below the chart, or have no place on a logarithmic axis; empty if none do. */
export function outsideText({ x, y }: Columns, { steps, values }: Shown, isLogarithmic: boolean): string {
  let [above, below, nonPositive] = [0, 0, 0];
  let [highest, lowest] = [-Infinity, Infinity];
  const [low, high] = values;
  for (let i = lowerBound(x, steps[0]); i < x.length && (x[i] ?? Infinity) <= steps[1]; i++) {
    const value = y[i] ?? NaN;
    if (!Number.isFinite(value)) {
      continue;
    }
    if (isLogarithmic && value <= 0) {
      nonPositive++;
    } else if (value > high) {
      above++;
      highest = Math.max(highest, value);
    } else if (value < low) {
      below++;
      lowest = Math.min(lowest, value);
    }
  }
  const parts = [];
  if (above > 0) {
    parts.push(`${points(above)} above the chart, up to ${formatValue(highest)}`);
  }
  if (below > 0) {
    parts.push(`${points(below)} below the chart, down to ${formatValue(lowest)}`);
  }
  if (nonPositive > 0) {
    parts.push(`${points(nonPositive)} not above 0, not on this axis`);
  }
  return parts.join('; ');
}

function points(count: number): string {
  return `${formatStep(count)} point${count === 1 ? '' : 's'}`;
}

import { formatTicks, formatValue } from '../format';
import type { Range } from './scale';

/** How values are laid out on the y axis. The chart draws positions: on a logarithmic axis these are logarithms. */
export interface YAxis {
  /** The position of a value; null where it has none. */
  position: (value: number) => number | null;
  /** The value at a position. */
  value: (position: number) => number;
  /** Positions of ticks within a range of positions; undefined if the chart may choose. */
  ticks: ((range: Range) => number[]) | undefined;
  labels: (ticks: readonly number[]) => string[];
}

export const LINEAR: YAxis = {
  position: value => value,
  value: position => position,
  ticks: undefined,
  labels: formatTicks
};

/** Values of 0 and below have no position. */
export const LOGARITHMIC: YAxis = {
  position: value => (value > 0 ? Math.log10(value) : null),
  value: position => 10 ** position,
  ticks: logTicks,
  labels: ticks => ticks.map(tick => formatValue(Number((10 ** tick).toPrecision(6))).replace('.00e', 'e'))
};

const MOST_TICKS = 6;

/** Powers of ten; 2 and 5 times those if there are few; within less than that, as many as a linear axis has. */
function logTicks([low, high]: Range): number[] {
  const decades = Math.ceil((high - low) / MOST_TICKS);
  const powers = multiples(low, high, Math.max(1, decades));
  if (powers.length >= 3) {
    return powers;
  }
  const finer = [...multiples(low - 1, high, 1)]
    .flatMap(power => [1, 2, 5].map(digit => power + Math.log10(digit)))
    .filter(tick => tick >= low && tick <= high);
  return finer.length >= 2 ? finer : linearTicks(10 ** low, 10 ** high).map(Math.log10);
}

function linearTicks(low: number, high: number): number[] {
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find(digit => digit * power >= rough) ?? 10);
  return multiples(low, high, step);
}

function multiples(low: number, high: number, step: number): number[] {
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => (first + i) * step);
}

import { nonFiniteKind, type NonFiniteKind } from './decimate';
import { formatStep, formatValue } from '../format';
import type { Columns } from './series';

interface NonFinite {
  count: number;
  firstStep: number;
}

export interface Summary {
  count: number;
  /** False if decimation has left points out: then more of them may not be finite. */
  isComplete: boolean;
  firstStep: number;
  lastStep: number;
  last: number;
  lowest: number;
  lowestStep: number;
  highest: number;
  nonFinite: Record<NonFiniteKind, NonFinite>;
}

/** Counts and extremes of a metric's points. */
export function summarise({ x, y }: Columns, total = 0): Summary {
  const none = (): NonFinite => ({ count: 0, firstStep: NaN });
  const summary: Summary = {
    count: Math.max(total, y.length),
    isComplete: total <= y.length,
    firstStep: x[0] ?? NaN,
    lastStep: x[x.length - 1] ?? NaN,
    last: y[y.length - 1] ?? NaN,
    lowest: Infinity,
    lowestStep: NaN,
    highest: -Infinity,
    nonFinite: { nan: none(), inf: none(), '-inf': none() }
  };
  for (let i = 0; i < y.length; i++) {
    const value = y[i] ?? NaN;
    const kind = nonFiniteKind(value);
    if (kind !== undefined) {
      const ofKind = summary.nonFinite[kind];
      ofKind.firstStep = ofKind.count === 0 ? (x[i] ?? NaN) : ofKind.firstStep;
      ofKind.count++;
      continue;
    }
    if (value < summary.lowest) {
      summary.lowest = value;
      summary.lowestStep = x[i] ?? NaN;
    }
    summary.highest = Math.max(summary.highest, value);
  }
  return summary;
}

/** The curve in one sentence, for those who cannot see it. */
export function sentence(metric: string, summary: Summary): string {
  if (summary.count === 0) {
    return `${metric}: no points yet.`;
  }
  const nonFinite = nonFiniteText(summary);
  return (
    `${metric} over ${summary.count} point${summary.count === 1 ? '' : 's'}, ` +
    `step ${formatStep(summary.firstStep)} to ${formatStep(summary.lastStep)}: last ${formatValue(summary.last)}` +
    (Number.isFinite(summary.lowest)
      ? `, lowest ${formatValue(summary.lowest)} at step ${formatStep(summary.lowestStep)}, ` +
        `highest ${formatValue(summary.highest)}`
      : '') +
    (nonFinite === '' ? '.' : `; ${nonFinite}.`)
  );
}

/** Which values could not be drawn, and where they began: `NaN at 29 steps, first at step 32`; empty when all could. */
export function nonFiniteText({ nonFinite, isComplete }: Summary): string {
  const names: [NonFiniteKind, string][] = [
    ['nan', 'NaN'],
    ['inf', '∞'],
    ['-inf', '−∞']
  ];
  return names
    .map(([kind, name]) => ({ name, ...nonFinite[kind] }))
    .filter(({ count }) => count > 0)
    .sort((a, b) => a.firstStep - b.firstStep)
    .map(({ name, count, firstStep }) => {
      const first = formatStep(firstStep);
      if (count === 1 && isComplete) {
        return `${name} at step ${first}`;
      }
      const steps = `${formatStep(count)} step${count === 1 ? '' : 's'}`;
      return `${name} at ${steps}${isComplete ? '' : ' or more'}, first at step ${first}`;
    })
    .join('; ');
}

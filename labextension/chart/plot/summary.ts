import { NON_FINITE, type NonFiniteKind } from './nonFiniteKind';
import { formatStep, formatValue } from '../format';
import type { Columns } from './series';

const NAMES: Record<NonFiniteKind, string> = { nan: 'NaN', inf: '∞', '-inf': '−∞' };

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
export function summarise({ x, y, blocks }: Columns, total = 0): Summary {
  const { lowest, highest, nonFinite } = blocks.extremes(y, 0, y.length);
  const at = (column: Float64Array, index: number): number => column[index] ?? NaN;
  const ofKind = (kind: NonFiniteKind): NonFinite => ({
    count: nonFinite[kind].count,
    firstStep: at(x, nonFinite[kind].first)
  });
  return {
    count: Math.max(total, y.length),
    isComplete: total <= y.length,
    firstStep: at(x, 0),
    lastStep: at(x, x.length - 1),
    last: at(y, y.length - 1),
    lowest: lowest < 0 ? Infinity : at(y, lowest),
    lowestStep: at(x, lowest),
    highest: highest < 0 ? -Infinity : at(y, highest),
    nonFinite: { nan: ofKind('nan'), inf: ofKind('inf'), '-inf': ofKind('-inf') }
  };
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
  return NON_FINITE.map(kind => ({ name: NAMES[kind], ...nonFinite[kind] }))
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

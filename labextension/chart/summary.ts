import { oddKind, type OddKind } from './decimate';
import { formatStep, formatValue } from './format';
import type { Columns } from './series';

export interface Summary {
  count: number;
  /** Whether all points are here to be counted. */
  whole: boolean;
  firstStep: number;
  lastStep: number;
  last: number;
  lowest: number;
  lowestStep: number;
  highest: number;
  odd: Record<OddKind, number>;
}

/** What a person would read off the curve. */
export function summarise({ x, y }: Columns, total = 0): Summary {
  const summary: Summary = {
    count: Math.max(total, y.length),
    whole: total <= y.length,
    firstStep: x[0] ?? NaN,
    lastStep: x[x.length - 1] ?? NaN,
    last: y[y.length - 1] ?? NaN,
    lowest: Infinity,
    lowestStep: NaN,
    highest: -Infinity,
    odd: { nan: 0, inf: 0, '-inf': 0 }
  };
  for (let i = 0; i < y.length; i++) {
    const value = y[i] ?? NaN;
    const kind = oddKind(value);
    if (kind !== undefined) {
      summary.odd[kind]++;
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
  const odd = oddText(summary);
  return (
    `${metric} over ${summary.count} point${summary.count === 1 ? '' : 's'}, ` +
    `step ${formatStep(summary.firstStep)} to ${formatStep(summary.lastStep)}: last ${formatValue(summary.last)}` +
    (Number.isFinite(summary.lowest)
      ? `, lowest ${formatValue(summary.lowest)} at step ${formatStep(summary.lowestStep)}, ` +
        `highest ${formatValue(summary.highest)}`
      : '') +
    (odd === '' ? '.' : `; not finite: ${odd}.`)
  );
}

/** How many values could not be drawn, by the marks that stand for them; empty when all could. */
export function oddText({ odd, whole }: Summary): string {
  const marks: [OddKind, string][] = [
    ['nan', '× NaN'],
    ['inf', '▲ ∞'],
    ['-inf', '▼ −∞']
  ];
  return marks
    .filter(([kind]) => odd[kind] > 0)
    .map(([kind, mark]) => `${whole ? '' : 'at least '}${odd[kind]} ${mark}`)
    .join(', ');
}

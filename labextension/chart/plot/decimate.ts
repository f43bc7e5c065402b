import { Blocks } from './blocks';
import { NON_FINITE, type NonFiniteKind } from './nonFiniteKind';

export interface NonFinitePoint {
  x: number;
  kind: NonFiniteKind;
}

export interface Drawing {
  x: number[];
  /** null interrupts the line: there was no finite value. */
  y: (number | null)[];
  nonFinite: NonFinitePoint[];
}

/** First index from `low` on whose value is at least `target`, in a sorted column. */
export function lowerBound(column: Float64Array, target: number, low = 0, high = column.length): number {
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((column[middle] ?? Infinity) < target) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

/**
 * The points to draw between `from` and `to` on `pixels` columns: of each pixel column the first, lowest,
 * highest and last value and the first of each kind that is not finite, so that no spike and no NaN can fall between samples.
 * One point is kept on either side of the range, so that the line runs to the edges of a zoomed view.
 */
export function decimate(
  x: Float64Array,
  y: Float64Array,
  from: number,
  to: number,
  pixels: number,
  blocks = new Blocks()
): Drawing {
  const drawing: Drawing = { x: [], y: [], nonFinite: [] };
  const start = Math.max(0, lowerBound(x, from) - 1);
  const end = Math.min(x.length, upperBound(x, to) + 1);
  const width = (to - from) / Math.max(1, Math.floor(pixels)) || 1;

  for (let i = start; i < end; ) {
    const column = Math.floor(((x[i] ?? 0) - from) / width);
    const next = Math.max(i + 1, boundary(x, from + (column + 1) * width, i, end));
    drawColumn(drawing, x, y, blocks, i, next);
    i = next;
  }
  return drawing;
}

/** As `lowerBound`, for a target that is as a rule near `low`. */
function boundary(x: Float64Array, target: number, low: number, end: number): number {
  let reach = 1;
  while (low + reach < end && (x[low + reach] ?? Infinity) < target) {
    reach *= 2;
  }
  return lowerBound(x, target, low + (reach >> 1), Math.min(end, low + reach));
}

function upperBound(column: Float64Array, target: number): number {
  let i = lowerBound(column, target);
  while (i < column.length && column[i] === target) {
    i++;
  }
  return i;
}

function drawColumn(
  drawing: Drawing,
  x: Float64Array,
  y: Float64Array,
  blocks: Blocks,
  start: number,
  end: number
): void {
  const { first, last, lowest, highest, nonFinite } = blocks.extremes(y, start, end);
  const marks = NON_FINITE.map(kind => ({ kind, index: nonFinite[kind].first })).filter(({ index }) => index >= 0);
  for (const { kind, index } of marks.sort((a, b) => a.index - b.index)) {
    drawing.nonFinite.push({ x: x[index] ?? NaN, kind });
  }
  if (first < 0) {
    drawing.x.push(x[start] ?? NaN);
    drawing.y.push(null);
    return;
  }
  const indices = new Set([first, Math.min(lowest, highest), Math.max(lowest, highest), last]);
  for (const i of indices) {
    drawing.x.push(x[i] ?? NaN);
    drawing.y.push(y[i] ?? null);
  }
}

/** Values that a linear axis cannot show; they are marked at its edge. */
export type NonFiniteKind = 'nan' | 'inf' | '-inf';

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

/** The kind of a value that is not finite, or undefined for one that is. */
export function nonFiniteKind(value: number): NonFiniteKind | undefined {
  if (Number.isFinite(value)) {
    return undefined;
  }
  return Number.isNaN(value) ? 'nan' : value > 0 ? 'inf' : '-inf';
}

/** First index whose value is at least `target`, in a sorted column. */
export function lowerBound(column: Float64Array, target: number): number {
  let low = 0;
  let high = column.length;
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
export function decimate(x: Float64Array, y: Float64Array, from: number, to: number, pixels: number): Drawing {
  const drawing: Drawing = { x: [], y: [], nonFinite: [] };
  const start = Math.max(0, lowerBound(x, from) - 1);
  const end = Math.min(x.length, upperBound(x, to) + 1);
  const columns = Math.max(1, Math.floor(pixels));
  const width = (to - from) / columns || 1;
  const columnOf = (i: number): number => Math.floor(((x[i] ?? 0) - from) / width);

  for (let i = start; i < end; ) {
    const column = columnOf(i);
    let next = i + 1;
    while (next < end && columnOf(next) === column) {
      next++;
    }
    drawColumn(drawing, x, y, i, next);
    i = next;
  }
  return drawing;
}

function upperBound(column: Float64Array, target: number): number {
  let i = lowerBound(column, target);
  while (i < column.length && column[i] === target) {
    i++;
  }
  return i;
}

function drawColumn(drawing: Drawing, x: Float64Array, y: Float64Array, start: number, end: number): void {
  let first = -1;
  let last = -1;
  let lowest = -1;
  let highest = -1;
  const marked = new Set<NonFiniteKind>();
  for (let i = start; i < end; i++) {
    const value = y[i] ?? NaN;
    const kind = nonFiniteKind(value);
    if (kind !== undefined) {
      if (!marked.has(kind)) {
        marked.add(kind);
        drawing.nonFinite.push({ x: x[i] ?? NaN, kind });
      }
      continue;
    }
    if (first < 0) {
      first = lowest = highest = i;
    }
    last = i;
    if (value < (y[lowest] ?? Infinity)) {
      lowest = i;
    }
    if (value > (y[highest] ?? -Infinity)) {
      highest = i;
    }
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

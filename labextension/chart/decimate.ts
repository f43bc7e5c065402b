/** What cannot be drawn on a linear axis is marked at its edge instead. */
export type OddKind = 'nan' | 'inf' | '-inf';

export interface Odd {
  x: number;
  kind: OddKind;
}

export interface Drawing {
  x: number[];
  /** null interrupts the line: nothing finite was there. */
  y: (number | null)[];
  odd: Odd[];
}

/** The kind of a value that is not finite, or undefined for one that is. */
export function oddKind(value: number): OddKind | undefined {
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
 * highest and last value and every kind of odd value, so that no spike and no NaN can fall between samples.
 * One point is kept on either side of the range, so that the line runs to the edges of a zoomed view.
 */
export function decimate(x: Float64Array, y: Float64Array, from: number, to: number, pixels: number): Drawing {
  const drawing: Drawing = { x: [], y: [], odd: [] };
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
  const seen = new Set<OddKind>();
  for (let i = start; i < end; i++) {
    const value = y[i] ?? NaN;
    const kind = oddKind(value);
    if (kind !== undefined) {
      if (!seen.has(kind)) {
        seen.add(kind);
        drawing.odd.push({ x: x[i] ?? NaN, kind });
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
  const kept = new Set([first, Math.min(lowest, highest), Math.max(lowest, highest), last]);
  for (const i of kept) {
    drawing.x.push(x[i] ?? NaN);
    drawing.y.push(y[i] ?? null);
  }
}

import { NON_FINITE, nonFiniteKind, type NonFiniteKind } from './nonFiniteKind';

/** Points in one block. */
const SIZE = 64;

/** Where the extremes of some points are: indices, -1 if there is none. */
export interface Extremes {
  first: number;
  last: number;
  lowest: number;
  highest: number;
  /** The first of each kind of value that isn't finite, and how many there are. */
  nonFinite: Record<NonFiniteKind, { first: number; count: number }>;
}

export function noExtremes(): Extremes {
  const none = (): { first: number; count: number } => ({ first: -1, count: 0 });
  return { first: -1, last: -1, lowest: -1, highest: -1, nonFinite: { nan: none(), inf: none(), '-inf': none() } };
}

/**
 * The extremes of each 64 values of a column that grows. A curve of many points is drawn and summed up from these, so
 * that an update costs what is new.
 */
export class Blocks {
  private blocks: Extremes[] = [];

  /** Of this many values, the first `same` are those of the last call. */
  update(y: Float64Array, same: number): void {
    this.blocks.length = Math.min(this.blocks.length, Math.floor(same / SIZE));
    for (let block = this.blocks.length; (block + 1) * SIZE <= y.length; block++) {
      const found = noExtremes();
      scan(found, y, block * SIZE, (block + 1) * SIZE);
      this.blocks.push(found);
    }
  }

  /** The extremes of the values from `start` to before `end`. */
  extremes(y: Float64Array, start: number, end: number): Extremes {
    const found = noExtremes();
    let i = start;
    const firstBlock = Math.ceil(start / SIZE);
    const lastBlock = Math.min(this.blocks.length, Math.floor(end / SIZE));
    if (firstBlock < lastBlock) {
      scan(found, y, i, firstBlock * SIZE);
      for (let block = firstBlock; block < lastBlock; block++) {
        const other = this.blocks[block];
        if (other !== undefined) {
          merge(found, other, y);
        }
      }
      i = lastBlock * SIZE;
    }
    scan(found, y, i, end);
    return found;
  }
}

/** Adds values one by one. */
export function scan(found: Extremes, y: Float64Array, start: number, end: number): void {
  for (let i = start; i < end; i++) {
    const value = y[i] ?? NaN;
    const kind = nonFiniteKind(value);
    if (kind !== undefined) {
      const ofKind = found.nonFinite[kind];
      ofKind.first = ofKind.count === 0 ? i : ofKind.first;
      ofKind.count++;
      continue;
    }
    if (found.first < 0) {
      found.first = found.lowest = found.highest = i;
    }
    found.last = i;
    if (value < (y[found.lowest] ?? NaN)) {
      found.lowest = i;
    }
    if (value > (y[found.highest] ?? NaN)) {
      found.highest = i;
    }
  }
}

/** Adds the values after those. */
function merge(found: Extremes, after: Extremes, y: Float64Array): void {
  for (const kind of NON_FINITE) {
    const [own, other] = [found.nonFinite[kind], after.nonFinite[kind]];
    own.first = own.count === 0 ? other.first : own.first;
    own.count += other.count;
  }
  if (after.first < 0) {
    return;
  }
  if (found.first < 0) {
    found.first = after.first;
    found.lowest = after.lowest;
    found.highest = after.highest;
  }
  found.last = after.last;
  if ((y[after.lowest] ?? NaN) < (y[found.lowest] ?? NaN)) {
    found.lowest = after.lowest;
  }
  if ((y[after.highest] ?? NaN) > (y[found.highest] ?? NaN)) {
    found.highest = after.highest;
  }
}

import { Blocks } from './blocks';
import { EMPTY, type Range } from './scale';

export interface Columns {
  x: Float64Array;
  y: Float64Array;
  /** The extremes of `y`, block by block. */
  blocks: Blocks;
}

/** The points of one metric: two growable columns, in the order they were logged. */
export class Series {
  private steps = new Float64Array(1024);
  private vals = new Float64Array(1024);
  private size = 0;
  private logged = 0;
  private isSorted = true;
  private sorted: Columns | undefined;
  private readonly blocks = new Blocks();
  /** How many values from the first are as they were when `blocks` was updated. */
  private same = 0;

  get length(): number {
    return this.size;
  }

  /** How many points were logged; of very many, a view holds those that make the same picture. */
  get total(): number {
    return Math.max(this.logged, this.size);
  }

  /**
   * Put points at `offset`. What was held from there on is replaced, since an earlier offset means
   * that history was sent again or cut back to a checkpoint. False when points before are missing.
   */
  put(offset: number, steps: Float64Array, values: Float64Array, total = 0): boolean {
    if (offset > this.size) {
      return false;
    }
    const size = offset + steps.length;
    this.reserve(size);
    this.steps.set(steps, offset);
    this.vals.set(values, offset);
    this.size = size;
    this.same = Math.min(this.same, offset);
    this.logged = total;
    this.isSorted = (offset === 0 || this.isSorted) && isSorted(this.steps, Math.max(1, offset), size);
    this.sorted = undefined;
    return true;
  }

  /** Columns sorted by step: views of the data itself when it is in order already, as it nearly always is. */
  columns(): Columns {
    this.sorted ??= this.view();
    return this.sorted;
  }

  /** The first and the last step; empty if there are no points. */
  range(): Range {
    const { x } = this.columns();
    return [x[0] ?? EMPTY[0], x[x.length - 1] ?? EMPTY[1]];
  }

  private view(): Columns {
    const x = this.steps.subarray(0, this.size);
    const y = this.vals.subarray(0, this.size);
    if (!this.isSorted) {
      this.same = 0;
      return sortedBySteps(x, y);
    }
    this.blocks.update(y, this.same);
    this.same = this.size;
    return { x, y, blocks: this.blocks };
  }

  private reserve(size: number): void {
    if (size <= this.steps.length) {
      return;
    }
    const capacity = Math.max(size, 2 * this.steps.length);
    this.steps = grown(this.steps, this.size, capacity);
    this.vals = grown(this.vals, this.size, capacity);
  }
}

function grown(column: Float64Array, size: number, capacity: number): Float64Array<ArrayBuffer> {
  const larger = new Float64Array(capacity);
  larger.set(column.subarray(0, size));
  return larger;
}

function isSorted(steps: Float64Array, from: number, to: number): boolean {
  for (let i = from; i < to; i++) {
    if ((steps[i] ?? 0) < (steps[i - 1] ?? 0)) {
      return false;
    }
  }
  return true;
}

function sortedBySteps(x: Float64Array, y: Float64Array): Columns {
  const order = Array.from(x.keys()).sort((a, b) => (x[a] ?? 0) - (x[b] ?? 0));
  const sorted = Float64Array.from(order, i => y[i] ?? NaN);
  const blocks = new Blocks();
  blocks.update(sorted, 0);
  return { x: Float64Array.from(order, i => x[i] ?? NaN), y: sorted, blocks };
}

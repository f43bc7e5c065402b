export interface Columns {
  x: Float64Array;
  y: Float64Array;
}

/** The points of one metric: two growable columns, in the order they were logged. */
export class Series {
  private steps = new Float64Array(1024);
  private vals = new Float64Array(1024);
  private size = 0;
  private logged = 0;
  private isSorted = true;
  private sorted: Columns | undefined;

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

  private view(): Columns {
    const x = this.steps.subarray(0, this.size);
    const y = this.vals.subarray(0, this.size);
    return this.isSorted ? { x, y } : sortedBySteps(x, y);
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
  return {
    x: Float64Array.from(order, i => x[i] ?? NaN),
    y: Float64Array.from(order, i => y[i] ?? NaN)
  };
}

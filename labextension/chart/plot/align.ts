/** One curve as it is drawn; null interrupts it. */
export interface Drawn {
  x: readonly number[];
  y: readonly (number | null)[];
}

/** Curves over one x: a curve without a point there has undefined, and its line goes on past it. */
export interface Aligned {
  x: number[];
  ys: (number | null | undefined)[][];
}

/** Puts curves over the union of their x, which are in order. An x occurs as often as in the curve that has it most. */
export function align(curves: readonly Drawn[]): Aligned {
  const [only] = curves;
  if (curves.length === 1 && only !== undefined) {
    return { x: [...only.x], ys: [[...only.y]] };
  }
  const aligned: Aligned = { x: [], ys: curves.map(() => []) };
  const next = curves.map(() => 0);
  for (;;) {
    let smallest = Infinity;
    curves.forEach(({ x }, k) => {
      smallest = Math.min(smallest, x[next[k] ?? 0] ?? Infinity);
    });
    if (smallest === Infinity) {
      return aligned;
    }
    aligned.x.push(smallest);
    curves.forEach(({ x, y }, k) => {
      const i = next[k] ?? 0;
      const isHere = x[i] === smallest;
      aligned.ys[k]?.push(isHere ? (y[i] ?? null) : undefined);
      next[k] = isHere ? i + 1 : i;
    });
  }
}

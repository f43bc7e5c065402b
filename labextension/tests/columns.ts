import { Blocks } from '../chart/plot/blocks';
import type { Columns } from '../chart/plot/series';

/** Columns as a series makes them. */
export function columns(x: readonly number[], y: readonly number[]): Columns {
  const values = Float64Array.from(y);
  const blocks = new Blocks();
  blocks.update(values, 0);
  return { x: Float64Array.from(x), y: values, blocks };
}

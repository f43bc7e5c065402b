import { lowerBound } from '../plot/decimate';
import type { Range } from '../plot/scale';

/** What the keyboard changes: the cursor's step, and the steps in view (undefined: all). */
export interface Place {
  cursor: number | undefined;
  zoom: Range | undefined;
}

/** The chart as a key finds it. */
export interface View {
  cursor: number | undefined;
  all: Range;
  inView: Range;
  /** The steps that are drawn, in order. */
  drawn: readonly number[];
}

const FAR = 0.1;
const FACTOR = 2;

/** Where a key leads; undefined for keys that mean nothing here. */
export function pressed(key: string, shift: boolean, view: View): Place | undefined {
  const { inView, all } = view;
  const far = FAR * (inView[1] - inView[0]);
  const isAll = inView[0] <= all[0] && inView[1] >= all[1];
  const zoom = isAll ? undefined : inView;
  switch (key) {
    case 'ArrowRight':
    case 'ArrowLeft':
      return moved(next(view, key === 'ArrowRight' ? 1 : -1, shift ? far : 0), zoom, view);
    case 'Home':
      return moved(all[0], zoom, view);
    case 'End':
      return moved(all[1], zoom, view);
    case '+':
    case '=':
      return { cursor: view.cursor, zoom: zoomed(view, 1 / FACTOR) };
    case '-':
      return { cursor: view.cursor, zoom: zoomed(view, FACTOR) };
    case '0':
      return { cursor: view.cursor, zoom: undefined };
    case 'Escape':
      return { cursor: undefined, zoom: undefined };
    default:
      return undefined;
  }
}

/** The drawn step next to the cursor; without a cursor the last one in view. `far`: at least so far from it. */
function next({ cursor, drawn, inView }: View, direction: 1 | -1, far: number): number {
  const steps = Float64Array.from(drawn);
  if (cursor === undefined) {
    return steps[Math.max(0, lowerBound(steps, inView[1] + 1e-9) - 1)] ?? inView[1];
  }
  const target = cursor + direction * far;
  let index = lowerBound(steps, target);
  if (direction === 1) {
    while (index < steps.length && (steps[index] ?? 0) <= cursor) {
      index++;
    }
  } else {
    while (index >= 0 && !((steps[index] ?? Infinity) < cursor && (steps[index] ?? Infinity) <= target)) {
      index--;
    }
  }
  return steps[Math.min(steps.length - 1, Math.max(0, index))] ?? cursor;
}

/** The cursor at a step; a zoomed view moves along. */
function moved(cursor: number, zoom: Range | undefined, { all }: View): Place {
  if (zoom === undefined || (cursor >= zoom[0] && cursor <= zoom[1])) {
    return { cursor, zoom };
  }
  const width = zoom[1] - zoom[0];
  return { cursor, zoom: within([cursor - width / 2, cursor + width / 2], all) };
}

/** So many times as many steps, about the cursor or else the middle. */
function zoomed({ cursor, all, inView }: View, factor: number): Range | undefined {
  const [low, high] = inView;
  const centre = cursor !== undefined && cursor >= low && cursor <= high ? cursor : (low + high) / 2;
  const width = Math.max(2, (high - low) * factor);
  if (width >= all[1] - all[0]) {
    return undefined;
  }
  const share = (centre - low) / (high - low || 1);
  return within([centre - share * width, centre + (1 - share) * width], all);
}

/** A range of the same width that doesn't reach out of another. */
function within([low, high]: Range, all: Range): Range {
  const shift = Math.max(0, all[0] - low) - Math.max(0, high - all[1]);
  return [Math.max(all[0], low + shift), Math.min(all[1], high + shift)];
}

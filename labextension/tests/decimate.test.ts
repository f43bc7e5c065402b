import { describe, expect, it } from 'vitest';
import { Blocks } from '../chart/plot/blocks';
import { decimate, lowerBound } from '../chart/plot/decimate';

const steps = (count: number): Float64Array => Float64Array.from({ length: count }, (_, i) => i);

describe('decimate', () => {
  it('keeps every point when there are fewer than pixels', () => {
    const y = Float64Array.from([3, 1, 2]);
    expect(decimate(steps(3), y, 0, 2, 100)).toEqual({ x: [0, 1, 2], y: [3, 1, 2], nonFinite: [] });
  });

  it('keeps a spike of one point among a million, and stays small', () => {
    const y = new Float64Array(1_000_000).fill(1);
    y[654_321] = 99;
    const drawing = decimate(steps(y.length), y, 0, y.length - 1, 500);
    expect(drawing.x[drawing.y.indexOf(99)]).toBe(654_321);
    expect(drawing.x.length).toBeLessThanOrEqual(4 * 501);
  });

  it('marks every kind of non-finite value once a pixel, and draws the finite ones beside it', () => {
    const y = new Float64Array(10_000).fill(1);
    y.set([NaN, NaN, Infinity, -Infinity], 5_000);
    const drawing = decimate(steps(y.length), y, 0, y.length - 1, 100);
    expect(drawing.nonFinite.map(({ kind }) => kind)).toEqual(['nan', 'inf', '-inf']);
    expect(drawing.y).not.toContain(null);
  });

  it('interrupts the line where nothing was finite', () => {
    const drawing = decimate(steps(3), Float64Array.from([1, NaN, 2]), 0, 2, 100);
    expect(drawing.y).toEqual([1, null, 2]);
    expect(drawing.nonFinite).toEqual([{ x: 1, kind: 'nan' }]);
  });

  it('keeps x in order, whichever of lowest and highest comes first', () => {
    const y = Float64Array.from({ length: 5_000 }, (_, i) => Math.sin(i * 1.7));
    const { x } = decimate(steps(y.length), y, 0, y.length - 1, 50);
    expect(x).toEqual([...x].sort((a, b) => a - b));
  });

  it('takes one point on either side of a zoomed range', () => {
    const { x } = decimate(steps(100), steps(100), 40.5, 43.5, 100);
    expect(x).toEqual([40, 41, 42, 43, 44]);
  });

  it('keeps points that share one step, and single points', () => {
    expect(decimate(new Float64Array(3), Float64Array.from([1, 5, 2]), -0.5, 0.5, 10).y).toEqual([1, 5, 2]);
    expect(decimate(new Float64Array(0), new Float64Array(0), 0, 1, 10)).toEqual({ x: [], y: [], nonFinite: [] });
  });
});

describe('Blocks', () => {
  const values = Float64Array.from({ length: 5_000 }, (_, i) => (i % 97 === 0 ? NaN : Math.sin(i * 1.7) * i));

  it('draw the same as the points themselves, from anywhere', () => {
    const blocks = new Blocks();
    blocks.update(values, 0);
    for (const [from, to, pixels] of [[0, 4_999, 20], [777, 4_100, 7], [3, 3.5, 100], [0, 4_999, 3_000]] as const) {
      expect(decimate(steps(5_000), values, from, to, pixels, blocks)).toEqual(
        decimate(steps(5_000), values, from, to, pixels)
      );
    }
  });

  it('follow a column that grows and whose end changes', () => {
    const [grown, whole] = [new Blocks(), new Blocks()];
    for (let size = 1; size < values.length; size += 301) {
      grown.update(values.slice(0, size).fill(7, Math.max(0, size - 50)), Math.max(0, size - 351));
    }
    grown.update(values, values.length - 351);
    whole.update(values, 0);
    expect(grown.extremes(values, 0, values.length)).toEqual(whole.extremes(values, 0, values.length));
  });
});

describe('lowerBound', () => {
  it('finds the first index not below the target', () => {
    const column = Float64Array.from([1, 2, 2, 4]);
    expect([0, 1, 2, 3, 4, 5].map(target => lowerBound(column, target))).toEqual([0, 0, 1, 3, 3, 4]);
  });
});

import { describe, expect, it } from 'vitest';
import { Series } from '../chart/plot/series';

const column = (...numbers: number[]): Float64Array => Float64Array.from(numbers);

describe('Series', () => {
  it('grows beyond its first capacity', () => {
    const series = new Series();
    for (let i = 0; i < 5_000; i++) {
      series.put(i, column(i), column(-i));
    }
    const { x, y } = series.columns();
    expect([x.length, x[4_999], y[4_999]]).toEqual([5_000, 4_999, -4_999]);
  });

  it('refuses points after a gap and keeps what it has', () => {
    const series = new Series();
    series.put(0, column(0), column(1));
    expect(series.put(2, column(2), column(1))).toBe(false);
    expect(series.length).toBe(1);
  });

  it('replaces what was there from an earlier offset on', () => {
    const series = new Series();
    series.put(0, column(0, 1, 2), column(9, 8, 7));
    expect(series.put(1, column(1), column(5))).toBe(true);
    expect(Array.from(series.columns().y)).toEqual([9, 5]);
  });

  it('sorts by step when points came out of order, once it has to', () => {
    const series = new Series();
    series.put(0, column(0, 2), column(10, 12));
    series.put(2, column(1), column(11));
    expect(Array.from(series.columns().x)).toEqual([0, 1, 2]);
    expect(Array.from(series.columns().y)).toEqual([10, 11, 12]);
    series.put(0, column(5), column(1));
    expect(Array.from(series.columns().x)).toEqual([5]);
  });
});

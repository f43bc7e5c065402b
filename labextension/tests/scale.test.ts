import { describe, expect, it } from 'vitest';
import { robustExtremes, union, valueRange, widened } from '../chart/plot/scale';
import { LOGARITHMIC } from '../chart/plot/yAxis';

const decay = (count: number, rate: number): number[] =>
  Array.from({ length: count }, (_, i) => Math.exp((-rate * i) / count));

describe('ranges', () => {
  it('give a single point and a flat line room', () => {
    expect(widened(3, 3)).toEqual([2.5, 3.5]);
    expect(valueRange([2, 2])).toEqual([1.8, 2.2]);
    expect(valueRange([0, 0])).toEqual([-0.5, 0.5]);
  });

  it('are whole where there is nothing', () => {
    expect(valueRange(union([]))).toEqual([0, 1]);
    expect(widened(...union([]))).toEqual([0, 1]);
  });
});

describe('robustExtremes', () => {
  it('leaves an early spike out', () => {
    const values = decay(1000, 3);
    values.splice(0, 3, 250, 90, 20);
    const [low, high] = robustExtremes(values);
    expect(low).toBeCloseTo(Math.exp(-3), 2);
    expect(high).toBeGreaterThan(0.95);
    expect(high).toBeLessThan(2);
  });

  it('leaves nothing out of curves that fall, oscillate or have few points', () => {
    for (const values of [decay(1000, 3), decay(1000, 10), [1, 2, 3, 500], decay(500, 0)]) {
      expect(robustExtremes(values)).toEqual([Math.min(...values), Math.max(...values)]);
    }
    const wave = Array.from({ length: 400 }, (_, i) => Math.sin(i / 7));
    expect(robustExtremes(wave)).toEqual([Math.min(...wave), Math.max(...wave)]);
  });

  it('keeps a spike of a line that is flat otherwise: there is nothing else to see', () => {
    expect(robustExtremes([...new Array<number>(500).fill(1), 9])).toEqual([1, 9]);
  });

  it('leaves out what is not drawn', () => {
    expect(robustExtremes([null, 0, null, 100])).toEqual([0, 100]);
  });
});

describe('the logarithmic axis', () => {
  it('has no place for 0 and below', () => {
    expect([1000, 0, -1].map(LOGARITHMIC.position)).toEqual([3, null, null]);
    expect(LOGARITHMIC.value(3)).toBe(1000);
  });

  it.each([
    [[-3, 3], ['0.001', '0.01', '0.1', '1', '10', '100', '1000']],
    [[-0.4, 1.1], ['0.5', '1', '2', '5', '10']],
    [[0.02, 0.2], ['1.2', '1.4']],
    [[-9, 9], ['1e-9', '1e-6', '0.001', '1', '1000', '1e6', '1e9']]
  ] as [[number, number], string[]][])('has ticks from %j', (range, labels) => {
    expect(LOGARITHMIC.labels(LOGARITHMIC.ticks?.(range) ?? [])).toEqual(labels);
  });
});

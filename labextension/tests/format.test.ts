import { describe, expect, it } from 'vitest';
import { formatStep, formatTicks, formatValue } from '../chart/format';
import { stepRange, valueRange } from '../chart/scale';

describe('formatValue', () => {
  it.each([
    [0, '0'],
    [0.123456, '0.1235'],
    [-12.5, '−12.5'],
    [0.00001234, '1.23e-5'],
    [12345678, '1.23e7'],
    [NaN, 'NaN'],
    [Infinity, '∞'],
    [-Infinity, '−∞']
  ])('%d', (value, text) => {
    expect(formatValue(value)).toBe(text);
  });
});

describe('formatStep', () => {
  it.each([
    [7, '7'],
    [1234567, '1\u202f234\u202f567'],
    [-1000, '−1\u202f000'],
    [1.5, '1.5']
  ])('%d', (step, text) => {
    expect(formatStep(step)).toBe(text);
  });
});

describe('formatTicks', () => {
  it.each([
    [[0, 0.5, 1], ['0.0', '0.5', '1.0']],
    [[0, 20, 40], ['0', '20', '40']],
    [[2.301, 2.302], ['2.301', '2.302']],
    [[0, 2e-5, 4e-5], ['0', '2e-5', '4e-5']],
    [[1e6, 2e6], ['1e6', '2e6']],
    [[-1, 0], ['−1', '0']]
  ])('%j', (ticks, labels) => {
    expect(formatTicks(ticks)).toEqual(labels);
  });
});

describe('ranges', () => {
  it('give a single point and a flat line room', () => {
    expect(stepRange(Float64Array.from([3]))).toEqual([2.5, 3.5]);
    expect(valueRange([2, 2])).toEqual([1.8, 2.2]);
    expect(valueRange([0])).toEqual([-0.5, 0.5]);
  });

  it('leave out what is not finite', () => {
    expect(valueRange([null, 0, null, 100])).toEqual([-6, 106]);
    expect(valueRange([null])).toEqual([0, 1]);
  });
});

import { describe, expect, it } from 'vitest';
import table from '../../tests/render/formats.json';
import * as format from '../chart/format';
import { stepRange, valueRange } from '../chart/plot/scale';

const FORMATTERS: Record<keyof typeof table, (value: number) => string> = {
  value: format.formatValue,
  step: format.formatStep,
  step_time: format.formatStepTime,
  rate: format.formatRate,
  size: format.formatSize,
  time: format.formatTime,
  time_left: format.formatTimeLeft,
  cores: format.formatCores,
  percent: format.formatPercent,
  power: format.formatPower
};

// The same table holds Python to the same text: tests/render/test_format.py.
describe.each(Object.entries(table))('%s', (kind, rows) => {
  it.each(rows as [number | string, string][])('%s is written %s', (value, text) => {
    expect(FORMATTERS[kind as keyof typeof table](Number(value))).toBe(text);
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
    expect(format.formatTicks(ticks)).toEqual(labels);
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

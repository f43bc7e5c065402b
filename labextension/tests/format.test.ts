import { describe, expect, it } from 'vitest';
import table from '../../tests/render/formats.json';
import * as format from '../chart/format';

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

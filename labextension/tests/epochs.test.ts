import { describe, expect, it } from 'vitest';
import { summaryText } from '../chart/epochs/epochPanel';
import { epochsOf, type Epochs } from '../chart/epochs/epochs';
import { Series } from '../chart/plot/series';

type Points = Record<string, [steps: number[], values: number[]]>;

function epochs(points: Points, step: number): Epochs {
  const metrics = Object.entries(points).map(([name, [steps, values]]): [string, Series] => {
    const series = new Series();
    series.put(0, Float64Array.from(steps), Float64Array.from(values));
    return [name, series];
  });
  const found = epochsOf(new Map(metrics), step);
  if (found === undefined) {
    throw new Error('no epochs');
  }
  return found;
}

const KNOWN: Points = {
  'mlnb.epochs': [[0], [4]],
  'mlnb.progress': [
    [0, 100, 200],
    [0, 0.25, 0.5]
  ],
  'mlnb.epoch.val_loss': [
    [0, 1],
    [0.9, 0.8]
  ],
  'mlnb.epoch.acc': [[1], [0.5]],
  'mlnb.epoch.loss': [
    [0, 1, 2],
    [1, 0.7, 0.6]
  ],
  'mlnb.epoch_seconds': [
    [0, 1],
    [12, 14]
  ]
};

describe('epochs', () => {
  it('have a row each, the loss first', () => {
    const { metrics, rows, total, done } = epochs(KNOWN, 250);
    expect({ metrics, total, done }).toEqual({ metrics: ['loss', 'val_loss', 'acc'], total: 4, done: 2 });
    expect(rows).toEqual([
      { number: 1, means: [1, 0.9, undefined], seconds: 12 },
      { number: 2, means: [0.7, 0.8, 0.5], seconds: 14 },
      { number: 3, means: [0.6, undefined, undefined], seconds: undefined }
    ]);
  });

  it('count the one that goes on by the steps of the one before', () => {
    expect(epochs(KNOWN, 250).fraction).toBe(0.625);
    expect(epochs(KNOWN, 200).fraction).toBe(0.5);
    expect(epochs(KNOWN, 900).fraction).toBe(0.75);
    expect(epochs({ 'mlnb.epochs': [[0], [4]], 'mlnb.progress': [[0], [0]] }, 50).fraction).toBe(0);
  });

  it('are told in one line', () => {
    expect(summaryText(epochs(KNOWN, 250), true)).toBe('epoch 3/4 · 13 s each');
    expect(summaryText(epochs(KNOWN, 250), false)).toBe('epoch 2/4 · 13 s each');
    const over: Points = { ...KNOWN, 'mlnb.progress': [[0, 400], [0, 1]] };
    expect(summaryText(epochs(over, 400), true)).toBe('epoch 4/4 · 13 s each');
    expect(summaryText(epochs(over, 400), false)).toBe('4 epochs · 13 s each');
  });

  it('are passes over the data where nothing else is known', () => {
    const passes: Points = {
      'mlnb.pass': [
        [0, 100],
        [0, 1]
      ],
      'mlnb.epoch.loss': [
        [0, 1],
        [1, 0.7]
      ],
      'mlnb.epoch_seconds': [[0], [1.5]]
    };
    expect(epochs(passes, 150)).toMatchObject({ total: undefined, fraction: undefined, done: 1 });
    expect(summaryText(epochs(passes, 150), true)).toBe('epoch 2 · 1.50 s each');
    expect(summaryText(epochs(passes, 200), false)).toBe('2 epochs · 1.50 s each');
  });

  it('are unknown without either', () => {
    expect(epochsOf(new Map(), 5)).toBeUndefined();
  });
});

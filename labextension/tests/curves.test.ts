import { describe, expect, it } from 'vitest';
import { pressed, type View } from '../chart/curves/keys';
import { firstChoice, groupMetrics } from '../chart/curves/metricGroups';
import { outsideText } from '../chart/curves/outside';
import { Visibility } from '../chart/curves/visibility';
import { columns } from './columns';

describe('groupMetrics', () => {
  const groups = (...names: string[]): string[][] => groupMetrics(names).map(({ metrics }) => metrics);

  it.each([
    ['loss', 'val_loss'],
    ['train/loss', 'val/loss'],
    ['loss_train', 'loss_val'],
    ['trainLoss', 'validLoss'],
    ['training.loss', 'validation.loss'],
    ['loss', 'eval_loss'],
    ['loss', 'loss (dev)'],
    ['train_loss_epoch', 'val_loss'],
    ['acc', 'test_acc'],
    ['acc@1', 'val acc@1'],
    ['Loss', 'val_loss', 'test_loss']
  ])('puts %s and %s into one chart', (...names) => {
    expect(groups(...names)).toEqual([names]);
    expect(groups(...names.reverse())).toEqual([names.reverse()]);
  });

  it('keeps other quantities apart', () => {
    expect(groups('loss', 'acc', 'val_loss', 'val_acc', 'lr')).toEqual([['loss', 'val_loss'], ['acc', 'val_acc'], ['lr']]);
    expect(groups('d_loss', 'g_loss', 'acc@1', 'acc@5')).toEqual([['d_loss'], ['g_loss'], ['acc@1'], ['acc@5']]);
    expect(groups('train', 'value_loss', 'evaluations', 'epoch')).toEqual([['train'], ['value_loss'], ['evaluations'], ['epoch']]);
  });

  it('is named by the quantity, or by the only metric', () => {
    expect(groupMetrics(['train/loss', 'val/loss', 'val/acc']).map(({ label }) => label)).toEqual(['loss', 'val/acc']);
  });

  it('shows a loss first', () => {
    const first = (...names: string[]): string | undefined => firstChoice(groupMetrics(names))?.label;
    expect(first('acc', 'd_loss', 'val_loss', 'loss')).toBe('loss');
    expect(first('acc', 'train/loss')).toBe('train/loss');
    expect(first('acc', 'lr')).toBe('acc');
    expect(first()).toBeUndefined();
  });
});

describe('Visibility', () => {
  const shown = (visibility: Visibility): string[] => ['a', 'b', 'c'].filter(name => visibility.has(name));

  it('toggles, isolates and shows all again', () => {
    const visibility = new Visibility(['a', 'b', 'c']);
    visibility.toggle('b');
    expect(shown(visibility)).toEqual(['a', 'c']);
    visibility.isolate('b');
    expect(shown(visibility)).toEqual(['b']);
    visibility.isolate('b');
    expect(shown(visibility)).toEqual(['a', 'b', 'c']);
  });

  it('never hides all', () => {
    const visibility = new Visibility(['a', 'b', 'c']);
    visibility.isolate('a');
    visibility.toggle('a');
    expect(shown(visibility)).toEqual(['a', 'b', 'c']);
    visibility.isolate('a');
    visibility.show(['b', 'c']);
    expect(shown(visibility)).toContain('b');
  });

  it('goes back to what was before a double click', () => {
    const visibility = new Visibility(['a', 'b', 'c']);
    const before = visibility.snapshot();
    visibility.toggle('c');
    visibility.restore(before);
    expect(shown(visibility)).toEqual(['a', 'b', 'c']);
  });
});

describe('keys', () => {
  const drawn = Array.from({ length: 101 }, (_, i) => i);
  const view = (cursor: number | undefined, inView: [number, number] = [0, 100]): View => ({
    cursor,
    all: [0, 100],
    inView,
    drawn: drawn.filter(step => step >= inView[0] - 1 && step <= inView[1] + 1)
  });

  it('move the cursor from point to point', () => {
    expect(pressed('ArrowRight', false, view(undefined))).toEqual({ cursor: 100, zoom: undefined });
    expect(pressed('ArrowLeft', false, view(100))).toEqual({ cursor: 99, zoom: undefined });
    expect(pressed('ArrowRight', false, view(99))).toEqual({ cursor: 100, zoom: undefined });
    expect(pressed('ArrowRight', false, view(100))).toEqual({ cursor: 100, zoom: undefined });
    expect(pressed('ArrowLeft', false, view(0))).toEqual({ cursor: 0, zoom: undefined });
    expect(pressed('ArrowRight', true, view(30))).toEqual({ cursor: 40, zoom: undefined });
    expect(pressed('ArrowLeft', true, view(30))).toEqual({ cursor: 20, zoom: undefined });
    expect(pressed('End', false, view(0))?.cursor).toBe(100);
    expect(pressed('Home', false, view(7))?.cursor).toBe(0);
  });

  it('zoom about the cursor, and back', () => {
    expect(pressed('+', false, view(20))).toEqual({ cursor: 20, zoom: [10, 60] });
    expect(pressed('=', false, view(undefined))).toEqual({ cursor: undefined, zoom: [25, 75] });
    expect(pressed('-', false, view(20, [10, 35]))?.zoom).toEqual([0, 50]);
    expect(pressed('-', false, view(20, [10, 60]))?.zoom).toBeUndefined();
    expect(pressed('0', false, view(20, [10, 60]))).toEqual({ cursor: 20, zoom: undefined });
  });

  it('take a zoomed view along', () => {
    expect(pressed('ArrowRight', false, view(60, [10, 60]))).toEqual({ cursor: 61, zoom: [36, 86] });
    expect(pressed('End', false, view(60, [10, 60]))).toEqual({ cursor: 100, zoom: [50, 100] });
  });

  it('leave other keys alone', () => {
    expect(pressed('a', false, view(1))).toBeUndefined();
  });
});

describe('outsideText', () => {
  const shown = { isZoomed: false, steps: [0, 9], values: [0.1, 2], hasOutliers: true } as const;
  const curve = columns([...Array(10).keys()], [250, 3, 1, 1, NaN, 0, -1, 0.01, 1, Infinity]);

  it('counts what lies above and below', () => {
    expect(outsideText(curve, { ...shown, steps: [0, 9], values: [0.1, 2] }, false)).toBe(
      '2 points above the chart, up to 250; 3 points below the chart, down to −1'
    );
    expect(outsideText(curve, { ...shown, steps: [2, 3], values: [0.1, 2] }, false)).toBe('');
  });

  it('counts what has no logarithm', () => {
    expect(outsideText(curve, { ...shown, steps: [1, 9], values: [0.001, 2] }, true)).toBe(
      '1 point above the chart, up to 3; 2 points not above 0, not on this axis'
    );
  });
});

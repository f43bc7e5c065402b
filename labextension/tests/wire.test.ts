import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { parseBundle } from '../chart/bundle';
import { decodePoints, isPointsMessage, type PointsMessage } from '../chart/frame';
import { parseRun } from '../chart/run';
import { sentence, summarise } from '../chart/summary';
import { Resync } from '../widget/resync';

describe('frames', () => {
  const message: PointsMessage = { type: 'points', metric: 'loss', offset: 3, count: 2 };

  it('decodes a buffer that begins at any byte', () => {
    const bytes = new Uint8Array(33);
    bytes.set(new Uint8Array(Float64Array.from([3, 4, 0.5, NaN]).buffer), 1);
    const points = decodePoints(message, new DataView(bytes.buffer, 1, 32));
    expect(points && { ...points, steps: [...points.steps], values: [...points.values] }).toEqual({
      metric: 'loss',
      offset: 3,
      steps: [3, 4],
      values: [0.5, NaN]
    });
  });

  it('refuses a buffer of another length, or none', () => {
    expect(decodePoints(message, new DataView(new ArrayBuffer(16)))).toBeUndefined();
    expect(decodePoints(message, undefined)).toBeUndefined();
  });

  it.each([null, 'points', { type: 'other' }, { ...message, count: -1 }, { ...message, offset: 0.5 }])(
    'does not take %j for points',
    other => {
      expect(isPointsMessage(other)).toBe(false);
    }
  );
});

describe('bundles', () => {
  it('reads numbers and the names of what JSON cannot hold', () => {
    const { run, metrics } = parseBundle({
      version: 1,
      id: 'r1',
      name: 'resnet',
      state: 'failed',
      reason: 'diverged',
      line: '',
      metrics: { loss: { step: [0, 1, 2, 3], value: [1, 'NaN', 'Infinity', '-Infinity'] } }
    });
    expect(run).toMatchObject({ id: 'r1', name: 'resnet', state: 'failed', reason: 'diverged', line: '' });
    expect(Array.from(metrics.get('loss')?.values ?? [])).toEqual([1, NaN, Infinity, -Infinity]);
  });

  it('says what is wrong', () => {
    expect(() => parseBundle([])).toThrow('not a saved mlnb run');
    expect(() => parseBundle({ version: 2 })).toThrow('format 2');
    const metrics = { loss: { step: [1], value: [] } };
    expect(() => parseBundle({ version: 1, metrics })).toThrow('"loss"');
  });

  it('takes an unknown state for pending and missing text for empty', () => {
    expect(parseRun({ state: 'odd', name: 3 })).toEqual({
      id: '',
      name: '',
      state: 'pending',
      reason: '',
      line: '',
      notes: [],
      error: '',
      output: '',
      figures: [],
      updated: 0
    });
  });
});

describe('summary', () => {
  it('tells the curve in a sentence', () => {
    const columns = { x: Float64Array.from([0, 1, 2]), y: Float64Array.from([2, 0.5, NaN]) };
    expect(sentence('loss', summarise(columns))).toBe(
      'loss over 3 points, step 0 to 2: last NaN, lowest 0.5 at step 1, highest 2; not finite: 1 × NaN.'
    );
  });
});

describe('Resync', () => {
  beforeEach(() => vi.useFakeTimers());
  afterEach(() => vi.useRealTimers());

  it('asks once until it is answered or too long has passed', () => {
    const send = vi.fn();
    const resync = new Resync(send);
    resync.ask();
    resync.ask();
    expect(send).toHaveBeenCalledTimes(1);
    vi.advanceTimersByTime(2_000);
    resync.ask();
    expect(send).toHaveBeenCalledTimes(2);
    resync.done();
    resync.ask();
    expect(send).toHaveBeenCalledTimes(3);
  });
});

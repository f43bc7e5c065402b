import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { parseBundle } from '../chart/bundle';
import { decodeFrames, decodePoints, isPointsMessage, type PointsMessage } from '../chart/frame';
import { isResourceMetric, readings } from '../chart/gauges/readings';
import { parseRun } from '../chart/run';
import { Series } from '../chart/plot/series';
import { nonFiniteText, sentence, summarise } from '../chart/plot/summary';
import { Resync } from '../widget/resync';
import { columns } from './columns';

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
      values: [0.5, NaN],
      total: 0
    });
  });

  it('decodes a message of several frames', () => {
    const frame = (metric: string, numbers: number[], total: number): Uint8Array[] => [
      new TextEncoder().encode(
        `${JSON.stringify({ type: 'points', metric, offset: 0, count: numbers.length / 2, total })}\n`
      ),
      new Uint8Array(Float64Array.from(numbers).buffer)
    ];
    // 10 is the byte of a line's end, and may be among the doubles too.
    const parts = [...frame('loss', [1, 10, 0.5, Infinity], 7), ...frame('acc', [], 0), ...frame('ä', [1, 2], 1)];
    const whole = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
    parts.reduce((at, part) => (whole.set(part, at), at + part.length), 0);
    const found = decodeFrames(whole.buffer);
    expect(found.map(({ metric, steps, values, total }) => [metric, [...steps], [...values], total])).toEqual([
      ['loss', [1, 10], [0.5, Infinity], 7],
      ['acc', [], [], 0],
      ['ä', [1], [2], 1]
    ]);
    expect(() => decodeFrames(whole.buffer.slice(0, -3))).toThrow('cut off');
    expect(() => decodeFrames(new TextEncoder().encode('{}\n').buffer)).toThrow('not a frame');
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
  it('reads numbers, and the names of those that JSON lacks', () => {
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
    expect(Array.from(metrics?.get('loss')?.values ?? [])).toEqual([1, NaN, Infinity, -Infinity]);
  });

  it('may have no curves, and the number of points that were logged', () => {
    expect(parseBundle({ version: 1, id: 'r1' }).metrics).toBeUndefined();
    const metrics = { loss: { total: 90, step: [1, 2], value: [1, 2] } };
    expect(parseBundle({ version: 1, metrics }).metrics?.get('loss')?.total).toBe(90);
  });

  it('says what is wrong', () => {
    expect(() => parseBundle([])).toThrow('not a saved mlnb run');
    expect(() => parseBundle({ version: 2 })).toThrow('format 2');
    const metrics = { loss: { step: [1], value: [] } };
    expect(() => parseBundle({ version: 1, metrics })).toThrow('"loss"');
  });

  it('reads an unknown state as pending and missing text as empty', () => {
    expect(parseRun({ state: 'odd', name: 3 })).toEqual({
      id: '',
      name: '',
      state: 'pending',
      reason: '',
      line: '',
      ends: undefined,
      attempts: [],
      means: new Map(),
      notes: [],
      error: '',
      output: '',
      displays: [],
      resume: '',
      updated: 0
    });
  });
});

describe('summary', () => {
  it('describes the curve in a sentence', () => {
    expect(sentence('loss', summarise(columns([0, 1, 2], [2, 0.5, NaN])))).toBe(
      'loss over 3 points, step 0 to 2: last NaN, lowest 0.5 at step 1, highest 2; NaN at step 2.'
    );
  });
});

describe('what is not finite', () => {
  const text = (values: number[], total?: number): string =>
    nonFiniteText(summarise(columns([...values.keys()], values), total));

  it('is counted, with its first step', () => {
    expect(text([1, 2])).toBe('');
    expect(text([1, NaN, NaN])).toBe('NaN at 2 steps, first at step 1');
    expect(text([Infinity, -Infinity, 1, -Infinity])).toBe('∞ at step 0; −∞ at 2 steps, first at step 1');
    expect(text([1, NaN], 5000)).toBe('NaN at 1 step or more, first at step 1');
  });
});

describe('resourceMetrics', () => {
  const series = (...values: number[]): Series => {
    const made = new Series();
    made.put(0, Float64Array.from(values.keys()), Float64Array.from(values));
    return made;
  };

  it('show the newest value while a run is active, then mean or peak', () => {
    const resourceMetrics = new Map([
      ['mlnb.gpu1.power', series(310)],
      ['mlnb.gpu0.memory', series(8e10)],
      ['mlnb.memory', series(1e9, 3e9, 2e9)],
      ['mlnb.progress', series(0.5)],
      ['step_time', series(0.001, NaN, 0.003)]
    ]);
    const shown = (active: boolean): string[] =>
      [...readings(resourceMetrics, active, new Map()).values()].map(({ label, statistic, value }) => `${label}: ${statistic} ${value}`);
    expect(shown(true)).toEqual(['step time:  3.00 ms', 'memory:  2.0 GB', 'GPU 0 memory:  80.0 GB', 'GPU 1 power:  310 W']);
    expect(shown(false).slice(0, 2)).toEqual(['step time: mean 2.00 ms', 'memory: peak 3.0 GB']);
  });

  it('are grouped by node, in order', () => {
    const names = ['mlnb.node10.cpu', 'mlnb.node1.gpu1.power', 'mlnb.node1.gpu0.power', 'mlnb.node0.gpu0.power'];
    names.push('mlnb.node1.memory', 'mlnb.node0.cpu', 'mlnb.cpu', 'step_time');
    const resourceMetrics = new Map(names.map(name => [name, series(1)]));
    expect([...readings(resourceMetrics, true, new Map()).values()].map(({ label }) => label)).toEqual([
      'step time',
      'CPU',
      'node 0 CPU',
      'node 0 GPU 0 power',
      'node 1 memory',
      'node 1 GPU 0 power',
      'node 1 GPU 1 power',
      'node 10 CPU'
    ]);
  });

  it('take the mean that the run has', () => {
    const resourceMetrics = new Map([['step_time', series(0.001, 0.003)]]);
    const means = parseRun({ means: { step_time: 0.0011, other: 'x' } }).means;
    const value = (active: boolean): string | undefined =>
      readings(resourceMetrics, active, means).get('step_time')?.value;
    expect([value(true), value(false)]).toEqual(['3.00 ms', '1.10 ms']);
  });

  it('are recognised by their names', () => {
    expect(['loss', 'mlnb.cpu', 'step_time', 'mlnb.anything'].map(isResourceMetric)).toEqual([false, true, true, true]);
  });
});

describe('Resync', () => {
  beforeEach(() => vi.useFakeTimers());
  afterEach(() => vi.useRealTimers());

  it('sends one request until it is answered or times out', () => {
    const send = vi.fn();
    const resync = new Resync(send);
    resync.request();
    resync.request();
    expect(send).toHaveBeenCalledTimes(1);
    vi.advanceTimersByTime(2_000);
    resync.request();
    expect(send).toHaveBeenCalledTimes(2);
    resync.done();
    resync.request();
    expect(send).toHaveBeenCalledTimes(3);
  });
});

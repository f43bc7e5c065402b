import { groupMetrics, firstChoice } from '../curves/metricGroups';
import type { Series } from '../plot/series';

const PROGRESS = 'mlnb.progress';
const COUNT = 'mlnb.epochs';
const PASS = 'mlnb.pass';
const SECONDS = 'mlnb.epoch_seconds';
const MEAN = 'mlnb.epoch.';

export interface EpochRow {
  /** From 1. */
  number: number;
  /** The mean of each metric in the epoch; undefined if it has none. */
  means: (number | undefined)[];
  /** How long it took; undefined while it goes on. */
  seconds: number | undefined;
}

export interface Epochs {
  /** How many there will be; undefined if that isn't known. */
  total: number | undefined;
  /** How many are done. */
  done: number;
  /** Which part of all is done, from 0 to 1; undefined if the total isn't known. */
  fraction: number | undefined;
  metrics: string[];
  rows: EpochRow[];
}

/** The epochs of a run, from what it records of them; undefined if it doesn't know any. */
export function epochsOf(resourceMetrics: ReadonlyMap<string, Series>, step: number): Epochs | undefined {
  const total = newest(resourceMetrics.get(COUNT));
  const progress = resourceMetrics.get(PROGRESS);
  const passes = newest(resourceMetrics.get(PASS));
  const isKnown = total !== undefined && progress !== undefined;
  if (!isKnown && passes === undefined) {
    return undefined;
  }
  const names = [...resourceMetrics.keys()].filter(name => name.startsWith(MEAN));
  const metrics = inOrder(names.map(name => name.slice(MEAN.length)));
  const means = metrics.map(metric => byNumber(resourceMetrics.get(MEAN + metric)));
  const seconds = byNumber(resourceMetrics.get(SECONDS));
  const numbers = [...new Set([...means, seconds].flatMap(column => [...column.keys()]))].sort((a, b) => a - b);
  return {
    total: isKnown ? total : undefined,
    done: isKnown ? Math.round((newest(progress) ?? 0) * total) : seconds.size,
    fraction: isKnown ? fractionDone(progress, total, step) : undefined,
    metrics,
    rows: numbers.map(number => ({
      number: number + 1,
      means: means.map(column => column.get(number)),
      seconds: seconds.get(number)
    }))
  };
}

/** The part of all epochs that is done, with that of the one that goes on if it is as long as the one before. */
function fractionDone(progress: Series, total: number, step: number): number {
  const { x, y } = progress.columns();
  const last = x.length - 1;
  const done = y[last] ?? 0;
  const epochs = ((y[last] ?? 0) - (y[last - 1] ?? NaN)) * total;
  const steps = ((x[last] ?? 0) - (x[last - 1] ?? NaN)) / epochs;
  const within = (step - (x[last] ?? 0)) / steps;
  return Math.min(1, done + (within > 0 ? Math.min(1, within) / total : 0));
}

/** Those of the first chart first, and each chart's together. */
function inOrder(metrics: readonly string[]): string[] {
  const groups = groupMetrics(metrics);
  const first = firstChoice(groups);
  return [first, ...groups.filter(group => group !== first)].flatMap(group => group?.metrics ?? []);
}

function newest(series: Series | undefined): number | undefined {
  const { y } = series?.columns() ?? { y: [] };
  return y[y.length - 1];
}

function byNumber(series: Series | undefined): Map<number, number> {
  const { x, y } = series?.columns() ?? { x: [], y: [] };
  return new Map(Array.from(x, (number, i): [number, number] => [number, y[i] ?? NaN]));
}

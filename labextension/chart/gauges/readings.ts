import { formatCores, formatPercent, formatPower, formatRate, formatSize, formatStepTime } from '../format';
import type { Series } from '../plot/series';

interface Kind {
  label: string;
  format: (value: number) => string;
  /** Which statistic of all values is shown once the run has ended. */
  statistic: 'mean' | 'peak';
}

const SPEED = new Map<string, Kind>([
  ['step_time', { label: 'step time', format: formatStepTime, statistic: 'mean' }],
  ['samples_per_s', { label: 'samples/s', format: formatRate, statistic: 'mean' }]
]);

const HOST = new Map<string, Kind>([
  ['cpu', { label: 'CPU', format: formatCores, statistic: 'mean' }],
  ['memory', { label: 'memory', format: formatSize, statistic: 'peak' }]
]);

const GPU = new Map<string, Kind>([
  ['utilisation', { label: '', format: formatPercent, statistic: 'mean' }],
  ['power', { label: ' power', format: formatPower, statistic: 'mean' }],
  ['memory', { label: ' memory', format: formatSize, statistic: 'peak' }]
]);

/** Where a metric is shown: of all nodes, or of one, and there by itself or with others of the same GPU. */
interface Source {
  kind: Kind;
  /** Empty for what is of the whole run. */
  node: string;
  /** The gauge that it is a part of; the first part is its curve. */
  gauge: string;
  label: string;
  /** Its place among the others. */
  order: readonly number[];
}

const OF_HOST = /^mlnb\.(?:node(\d+)\.)?(cpu|memory)$/;
const OF_GPU = /^mlnb\.(?:node(\d+)\.)?gpu(\d+)\.(\w+)$/;

function sourceOf(name: string): Source | undefined {
  const speed = SPEED.get(name);
  if (speed !== undefined) {
    return { kind: speed, node: '', gauge: speed.label, label: speed.label, order: [-2, indexOf(SPEED, name)] };
  }
  const [, node, what = ''] = OF_HOST.exec(name) ?? [];
  const host = HOST.get(what);
  if (host !== undefined) {
    const { label } = host;
    return { kind: host, node: nodeName(node), gauge: label, label, order: [nodeOrder(node), -1, indexOf(HOST, what)] };
  }
  const [, gpuNode, index = '', part = ''] = OF_GPU.exec(name) ?? [];
  const gpu = GPU.get(part);
  if (gpu === undefined) {
    return undefined;
  }
  const gauge = `GPU ${index}`;
  const order = [nodeOrder(gpuNode), Number(index), indexOf(GPU, part)];
  return { kind: gpu, node: nodeName(gpuNode), gauge, label: gauge + gpu.label, order };
}

function indexOf(kinds: ReadonlyMap<string, Kind>, name: string): number {
  return [...kinds.keys()].indexOf(name);
}

function nodeName(node: string | undefined): string {
  return node === undefined ? '' : `node ${node}`;
}

/** The whole run comes before its nodes. */
function nodeOrder(node: string | undefined): number {
  return node === undefined ? -1 : Number(node);
}

/** Whether a metric is shown as a gauge (speed and resources) and not as a curve. */
export function isResourceMetric(name: string): boolean {
  return name.startsWith('mlnb.') || SPEED.has(name);
}

/** What a gauge and a row of the table show of a metric. */
export interface Reading {
  label: string;
  node: string;
  gauge: string;
  /** `mean` or `peak` once the run has ended; empty before, when the value is the newest. */
  statistic: '' | Kind['statistic'];
  value: string;
  lowest: string;
  highest: string;
  count: number;
}

/**
 * Readings by metric, in the order shown: speed, the whole run, then node by node. While the run is active they are the
 * newest values, then means or peaks: the `means` of the run where it has them, since a view may hold fewer points.
 */
export function readings(
  resourceMetrics: ReadonlyMap<string, Series>,
  active: boolean,
  means: ReadonlyMap<string, number>
): Map<string, Reading> {
  const sources = [...resourceMetrics].flatMap(([name, series]) => {
    const source = sourceOf(name);
    return source === undefined ? [] : [{ name, series, source }];
  });
  sources.sort((a, b) => compare(a.source.order, b.source.order));
  const all = new Map<string, Reading>();
  for (const { name, series, source } of sources) {
    const reading = readingOf(source, series, active, means.get(name));
    if (reading !== undefined) {
      all.set(name, reading);
    }
  }
  return all;
}

function compare(a: readonly number[], b: readonly number[]): number {
  const index = a.findIndex((value, i) => value !== b[i]);
  return index < 0 ? 0 : (a[index] ?? 0) - (b[index] ?? 0);
}

function readingOf(
  { kind, node, gauge, label }: Source,
  series: Series,
  active: boolean,
  knownMean: number | undefined
): Reading | undefined {
  const y = series.columns().y.filter(Number.isFinite);
  if (y.length === 0) {
    return undefined;
  }
  const lowest = y.reduce((a, b) => Math.min(a, b));
  const highest = y.reduce((a, b) => Math.max(a, b));
  const mean = knownMean ?? y.reduce((sum, value) => sum + value, 0) / y.length;
  return {
    label: node === '' ? label : `${node} ${label}`,
    node,
    gauge,
    statistic: active ? '' : kind.statistic,
    value: kind.format(active ? (y[y.length - 1] ?? NaN) : kind.statistic === 'mean' ? mean : highest),
    lowest: kind.format(lowest),
    highest: kind.format(highest),
    count: series.total
  };
}

import { add } from './dom';
import { formatCores, formatPercent, formatPower, formatRate, formatSize, formatStepTime } from './format';
import type { Series } from './plot/series';

const SVG = 'http://www.w3.org/2000/svg';
const WIDTH = 72;
const HEIGHT = 18;

/** How many of the newest points a small curve shows. */
const NEWEST = 120;

interface Kind {
  label: string;
  /** The gauge that it is a part of; the first part is its curve. */
  gauge: string;
  format: (value: number) => string;
  /** Which statistic of all values is shown once the run has ended. */
  statistic: 'mean' | 'peak';
}

function single(gauge: string, format: Kind['format'], statistic: Kind['statistic']): Kind {
  return { label: gauge, gauge, format, statistic };
}

const KINDS = new Map<string, Kind>([
  ['step_time', single('step time', formatStepTime, 'mean')],
  ['samples_per_s', single('samples/s', formatRate, 'mean')],
  ['mlnb.cpu', single('CPU', formatCores, 'mean')],
  ['mlnb.memory', single('memory', formatSize, 'peak')]
]);

const GPU = new Map<string, Omit<Kind, 'gauge'>>([
  ['utilisation', { label: '', format: formatPercent, statistic: 'mean' }],
  ['power', { label: ' power', format: formatPower, statistic: 'mean' }],
  ['memory', { label: ' memory', format: formatSize, statistic: 'peak' }]
]);

function kindOf(name: string): Kind | undefined {
  const [, index = '', what = ''] = /^mlnb\.gpu(\d+)\.(\w+)$/.exec(name) ?? [];
  const kind = GPU.get(what);
  const gauge = `GPU ${index}`;
  return kind === undefined ? KINDS.get(name) : { ...kind, gauge, label: gauge + kind.label };
}

/** Names of gauges' metrics in the order shown: speed, CPU and memory, then GPU by GPU. */
function sortedForDisplay(names: Iterable<string>): string[] {
  const order = [...KINDS.keys()];
  const parts = [...GPU.keys()];
  const key = (name: string): number => {
    const [, index, what = ''] = /^mlnb\.gpu(\d+)\.(\w+)$/.exec(name) ?? [];
    return index === undefined ? order.indexOf(name) : order.length + 10 * Number(index) + parts.indexOf(what);
  };
  return [...names].filter(name => kindOf(name) !== undefined).sort((a, b) => key(a) - key(b));
}

/** Whether a metric is shown as a gauge (speed and resources) and not as a curve. */
export function isResourceMetric(name: string): boolean {
  return name.startsWith('mlnb.') || KINDS.has(name);
}

/** What a gauge and a row of the table show of a metric. */
export interface Reading {
  label: string;
  gauge: string;
  /** `mean` or `peak` once the run has ended; empty before, when the value is the newest. */
  statistic: '' | Kind['statistic'];
  value: string;
  lowest: string;
  highest: string;
  count: number;
}

/** Readings by metric, in the order shown: the newest value while the run is active, then the mean or peak. */
export function readings(resourceMetrics: ReadonlyMap<string, Series>, active: boolean): Map<string, Reading> {
  const all = new Map<string, Reading>();
  for (const name of sortedForDisplay(resourceMetrics.keys())) {
    const series = resourceMetrics.get(name);
    const reading = series && readingOf(name, series, active);
    if (reading !== undefined) {
      all.set(name, reading);
    }
  }
  return all;
}

function readingOf(name: string, series: Series, active: boolean): Reading | undefined {
  const kind = kindOf(name);
  const y = series.columns().y.filter(Number.isFinite);
  if (kind === undefined || y.length === 0) {
    return undefined;
  }
  const lowest = y.reduce((a, b) => Math.min(a, b));
  const highest = y.reduce((a, b) => Math.max(a, b));
  const mean = y.reduce((sum, value) => sum + value, 0) / y.length;
  return {
    label: kind.label,
    gauge: kind.gauge,
    statistic: active ? '' : kind.statistic,
    value: kind.format(active ? (y[y.length - 1] ?? NaN) : kind.statistic === 'mean' ? mean : highest),
    lowest: kind.format(lowest),
    highest: kind.format(highest),
    count: series.total
  };
}

/** Below the curve: step time, samples per second, cores, memory and GPUs, each with a small curve. */
export class Gauges {
  private readonly element: HTMLElement;
  private readonly cells = new Map<string, Cell>();

  constructor(parent: HTMLElement) {
    this.element = add(parent, 'div', 'mlnb-gauges');
    this.element.hidden = true;
    this.element.setAttribute('aria-hidden', 'true'); // the table holds the same
  }

  show(resourceMetrics: ReadonlyMap<string, Series>, active: boolean): void {
    const gauges = new Map<string, { shown: Reading[]; values: Float64Array }>();
    for (const [name, reading] of readings(resourceMetrics, active)) {
      const values = resourceMetrics.get(name)?.columns().y.subarray(-NEWEST) ?? new Float64Array();
      const gauge = gauges.get(reading.gauge) ?? { shown: [], values };
      gauge.shown.push(reading);
      gauges.set(reading.gauge, gauge);
    }
    for (const [name, cell] of this.cells) {
      if (!gauges.has(name)) {
        cell.element.remove();
        this.cells.delete(name);
      }
    }
    let before: Element | null = null;
    for (const [name, { shown, values }] of gauges) {
      const cell = this.cells.get(name) ?? new Cell();
      this.cells.set(name, cell);
      const position: Element | null = before === null ? this.element.firstElementChild : before.nextElementSibling;
      if (position !== cell.element) {
        this.element.insertBefore(cell.element, position);
      }
      before = cell.element;
      cell.show(name, shown, values);
    }
    this.element.hidden = gauges.size === 0;
  }
}

class Cell {
  readonly element = document.createElement('div');
  private readonly label = add(this.element, 'span', 'mlnb-gauge-label');
  private readonly value = add(this.element, 'span', 'mlnb-gauge-value');
  private readonly svg = document.createElementNS(SVG, 'svg');
  private readonly line = document.createElementNS(SVG, 'polyline');

  constructor() {
    this.element.className = 'mlnb-gauge';
    this.svg.setAttribute('viewBox', `0 0 ${WIDTH} ${HEIGHT}`);
    this.svg.append(this.line);
    this.element.append(this.svg);
  }

  show(name: string, shown: readonly Reading[], values: Float64Array): void {
    this.label.textContent = name;
    this.value.textContent = shown
      .map(({ statistic, value }, i) =>
        statistic === '' || statistic === shown[i - 1]?.statistic ? value : `${statistic} ${value}`
      )
      .join(' · ');
    this.element.title = shown
      .map(({ label, lowest, highest }) => `${label}: lowest ${lowest}, highest ${highest}`)
      .join('\n');
    const highest = values.reduce((most, value) => (Number.isFinite(value) ? Math.max(most, value) : most), 0);
    const points: string[] = [];
    values.forEach((value, i) => {
      if (Number.isFinite(value)) {
        const x = (i * WIDTH) / Math.max(1, values.length - 1);
        const y = HEIGHT - 1 - (highest > 0 ? (value / highest) * (HEIGHT - 3) : 0);
        points.push(`${x.toFixed(1)},${y.toFixed(1)}`);
      }
    });
    this.line.setAttribute('points', points.length > 1 ? points.join(' ') : '');
    this.svg.style.visibility = points.length > 1 ? 'visible' : 'hidden';
  }
}

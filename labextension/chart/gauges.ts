import { add } from './dom';
import { formatSize, formatValue } from './format';
import type { Series } from './series';

const SVG = 'http://www.w3.org/2000/svg';
const WIDTH = 72;
const HEIGHT = 18;

/** As many of the newest points as a small curve shows. */
const NEWEST = 120;

interface Kind {
  label: string;
  /** The gauge that it is a part of; the first part is its curve. */
  gauge: string;
  format: (value: number) => string;
  /** What stands for all of it once the run has ended. */
  end: 'mean' | 'peak';
}

function formatDuration(seconds: number): string {
  return seconds < 1 ? `${formatValue(Number((seconds * 1000).toPrecision(3)))} ms` : `${seconds.toPrecision(3)} s`;
}

function alone(gauge: string, format: Kind['format'], end: Kind['end']): Kind {
  return { label: gauge, gauge, format, end };
}

const KINDS = new Map<string, Kind>([
  ['step_time', alone('time a step', formatDuration, 'mean')],
  ['samples_per_s', alone('samples/s', value => formatValue(Math.round(value)), 'mean')],
  ['mlnb.cpu', alone('CPU', value => `${value.toFixed(1)} cores`, 'mean')],
  ['mlnb.memory', alone('memory', formatSize, 'peak')]
]);

const GPU = new Map<string, Omit<Kind, 'gauge'>>([
  ['utilisation', { label: '', format: value => `${value.toFixed(0)} %`, end: 'mean' }],
  ['power', { label: ' power', format: value => `${value.toFixed(0)} W`, end: 'mean' }],
  ['memory', { label: ' memory', format: formatSize, end: 'peak' }]
]);

function kindOf(name: string): Kind | undefined {
  const [, index = '', what = ''] = /^mlnb\.gpu(\d+)\.(\w+)$/.exec(name) ?? [];
  const kind = GPU.get(what);
  const gauge = `GPU ${index}`;
  return kind === undefined ? KINDS.get(name) : { ...kind, gauge, label: gauge + kind.label };
}

/** Names as they are shown: how fast, with what, then GPU by GPU. */
function inOrder(names: Iterable<string>): string[] {
  const order = [...KINDS.keys()];
  const parts = [...GPU.keys()];
  const key = (name: string): number => {
    const [, index, what = ''] = /^mlnb\.gpu(\d+)\.(\w+)$/.exec(name) ?? [];
    return index === undefined ? order.indexOf(name) : order.length + 10 * Number(index) + parts.indexOf(what);
  };
  return [...names].filter(name => kindOf(name) !== undefined).sort((one, other) => key(one) - key(other));
}

/** Whether a name is of what is shown beside the curves (how fast, with what), not of a curve of its own. */
export function isResourceMetric(name: string): boolean {
  return name.startsWith('mlnb.') || KINDS.has(name);
}

/** What a gauge says, for the table too. */
export interface Reading {
  label: string;
  gauge: string;
  /** `mean` or `peak` once the run has ended; the value is the newest before. */
  word: string;
  value: string;
  lowest: string;
  highest: string;
  count: number;
}

/** The newest values while a run goes on, and what stands for all of them once it has ended, in order, by name. */
export function readings(resourceMetrics: ReadonlyMap<string, Series>, active: boolean): Map<string, Reading> {
  const found = new Map<string, Reading>();
  for (const name of inOrder(resourceMetrics.keys())) {
    const series = resourceMetrics.get(name);
    const reading = series && read(name, series, active);
    if (reading !== undefined) {
      found.set(name, reading);
    }
  }
  return found;
}

function read(name: string, series: Series, active: boolean): Reading | undefined {
  const kind = kindOf(name);
  const y = series.columns().y.filter(Number.isFinite);
  if (kind === undefined || y.length === 0) {
    return undefined;
  }
  const lowest = y.reduce((one, other) => Math.min(one, other));
  const highest = y.reduce((one, other) => Math.max(one, other));
  const mean = y.reduce((sum, value) => sum + value, 0) / y.length;
  return {
    label: kind.label,
    gauge: kind.gauge,
    word: active ? '' : kind.end,
    value: kind.format(active ? (y[y.length - 1] ?? NaN) : kind.end === 'mean' ? mean : highest),
    lowest: kind.format(lowest),
    highest: kind.format(highest),
    count: series.total
  };
}

/** Below the curve: time per step, samples per second, cores, memory and GPUs, each with a small curve. */
export class Gauges {
  private readonly element: HTMLElement;
  private readonly cells = new Map<string, Cell>();

  constructor(parent: HTMLElement) {
    this.element = add(parent, 'div', 'mlnb-gauges');
    this.element.hidden = true;
    this.element.setAttribute('aria-hidden', 'true'); // the table says it
  }

  show(resourceMetrics: ReadonlyMap<string, Series>, active: boolean): void {
    const gauges = new Map<string, { said: Reading[]; values: Float64Array }>();
    for (const [name, reading] of readings(resourceMetrics, active)) {
      const values = resourceMetrics.get(name)?.columns().y.subarray(-NEWEST) ?? new Float64Array();
      const gauge = gauges.get(reading.gauge) ?? { said: [], values };
      gauge.said.push(reading);
      gauges.set(reading.gauge, gauge);
    }
    for (const [name, cell] of this.cells) {
      if (!gauges.has(name)) {
        cell.element.remove();
        this.cells.delete(name);
      }
    }
    let before: Element | null = null;
    for (const [name, { said, values }] of gauges) {
      const cell = this.cells.get(name) ?? new Cell();
      this.cells.set(name, cell);
      const place: Element | null = before === null ? this.element.firstElementChild : before.nextElementSibling;
      if (place !== cell.element) {
        this.element.insertBefore(cell.element, place);
      }
      before = cell.element;
      cell.show(name, said, values);
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

  show(name: string, said: readonly Reading[], values: Float64Array): void {
    this.label.textContent = name;
    this.value.textContent = said
      .map(({ word, value }, i) => (word === '' || word === said[i - 1]?.word ? value : `${word} ${value}`))
      .join(' · ');
    this.element.title = said
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

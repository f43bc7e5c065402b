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
  format: (value: number) => string;
  /** What stands for all of it once the run has ended. */
  end: 'mean' | 'peak';
}

function formatDuration(seconds: number): string {
  return seconds < 1 ? `${formatValue(Number((seconds * 1000).toPrecision(3)))} ms` : `${seconds.toPrecision(3)} s`;
}

const KINDS = new Map<string, Kind>([
  ['step_time', { label: 'time a step', format: formatDuration, end: 'mean' }],
  ['samples_per_s', { label: 'samples/s', format: value => formatValue(Math.round(value)), end: 'mean' }],
  ['mlnb.cpu', { label: 'CPU', format: value => `${value.toFixed(1)} cores`, end: 'mean' }],
  ['mlnb.memory', { label: 'memory', format: formatSize, end: 'peak' }]
]);

const GPU: [RegExp, Omit<Kind, 'label'>, string][] = [
  [/^mlnb\.gpu(\d+)\.utilisation$/, { format: value => `${value.toFixed(0)} %`, end: 'mean' }, ''],
  [/^mlnb\.gpu(\d+)\.memory$/, { format: formatSize, end: 'peak' }, ' memory'],
  [/^mlnb\.gpu(\d+)\.power$/, { format: value => `${value.toFixed(0)} W`, end: 'mean' }, ' power']
];

function kindOf(name: string): Kind | undefined {
  for (const [pattern, kind, what] of GPU) {
    const index = pattern.exec(name)?.[1];
    if (index !== undefined) {
      return { ...kind, label: `GPU ${index}${what}` };
    }
  }
  return KINDS.get(name);
}

/** Whether a name is of what is shown beside the curves (how fast, with what), not of a curve of its own. */
export function isAside(name: string): boolean {
  return name.startsWith('mlnb.') || KINDS.has(name);
}

/** What a gauge says, for the table too. */
export interface Reading {
  label: string;
  value: string;
  lowest: string;
  highest: string;
  count: number;
}

/** The newest value while a run goes on, and what stands for all of them once it has ended. */
export function read(name: string, series: Series, active: boolean): Reading | undefined {
  const kind = kindOf(name);
  const { y } = series.columns();
  if (kind === undefined || y.length === 0) {
    return undefined;
  }
  let sum = 0;
  let lowest = Infinity;
  let highest = -Infinity;
  for (const value of y) {
    sum += value;
    lowest = Math.min(lowest, value);
    highest = Math.max(highest, value);
  }
  const said = active ? (y[y.length - 1] ?? NaN) : kind.end === 'mean' ? sum / y.length : highest;
  return {
    label: active ? kind.label : `${kind.label}, ${kind.end}`,
    value: kind.format(said),
    lowest: kind.format(lowest),
    highest: kind.format(highest),
    count: series.total
  };
}

/** Below the curve: time per step, samples per second, cores, memory and GPUs, each a number and a small curve. */
export class Gauges {
  private readonly element: HTMLElement;
  private readonly cells = new Map<string, Cell>();

  constructor(parent: HTMLElement) {
    this.element = add(parent, 'div', 'mlnb-gauges');
    this.element.hidden = true;
    this.element.setAttribute('aria-hidden', 'true'); // the table says it
  }

  show(asides: ReadonlyMap<string, Series>, active: boolean): void {
    for (const [name, cell] of this.cells) {
      if (!asides.has(name)) {
        cell.element.remove();
        this.cells.delete(name);
      }
    }
    for (const name of [...asides.keys()].sort(byPlace)) {
      const series = asides.get(name);
      const reading = series && read(name, series, active);
      if (series === undefined || reading === undefined) {
        continue;
      }
      const cell = this.cells.get(name) ?? new Cell();
      this.cells.set(name, cell);
      this.element.append(cell.element);
      cell.show(reading, series.columns().y.subarray(-NEWEST));
    }
    this.element.hidden = this.cells.size === 0;
  }
}

const ORDER = [...KINDS.keys()];

function byPlace(one: string, other: string): number {
  const place = (name: string): number => (ORDER.includes(name) ? ORDER.indexOf(name) : ORDER.length);
  return place(one) - place(other) || one.localeCompare(other, 'en', { numeric: true });
}

class Cell {
  readonly element = document.createElement('div');
  private readonly label = add(this.element, 'span', 'mlnb-gauge-label');
  private readonly value = add(this.element, 'span', 'mlnb-gauge-value');
  private readonly line = document.createElementNS(SVG, 'polyline');

  constructor() {
    this.element.className = 'mlnb-gauge';
    const svg = document.createElementNS(SVG, 'svg');
    svg.setAttribute('viewBox', `0 0 ${WIDTH} ${HEIGHT}`);
    svg.append(this.line);
    this.element.append(svg);
  }

  show(reading: Reading, values: Float64Array): void {
    this.label.textContent = reading.label;
    this.value.textContent = reading.value;
    this.element.title = `${reading.label}: ${reading.value}; lowest ${reading.lowest}, highest ${reading.highest}`;
    let highest = 0;
    for (const value of values) {
      highest = Number.isFinite(value) ? Math.max(highest, value) : highest;
    }
    const points: string[] = [];
    values.forEach((value, i) => {
      if (Number.isFinite(value)) {
        const x = values.length > 1 ? (i * WIDTH) / (values.length - 1) : WIDTH / 2;
        const y = HEIGHT - 1 - (highest > 0 ? (value / highest) * (HEIGHT - 3) : 0);
        points.push(`${x.toFixed(1)},${y.toFixed(1)}`);
      }
    });
    this.line.setAttribute('points', points.length > 1 ? points.join(' ') : '');
  }
}

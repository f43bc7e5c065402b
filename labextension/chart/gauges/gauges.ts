import { add } from '../dom';
import type { Series } from '../plot/series';
import { Cell } from './cell';
import type { Reading } from './readings';

/** How many of the newest points a small curve shows. */
const NEWEST = 120;

interface Gauge {
  node: string;
  name: string;
  shown: Reading[];
  values: Float64Array;
}

/** Below the curves: speed, cores, memory and GPUs, each with a small curve; of several nodes, node by node. */
export class Gauges {
  private readonly element: HTMLElement;
  private cells: { key: string; cell: Cell }[] = [];
  private layout = '';

  constructor(parent: HTMLElement) {
    this.element = add(parent, 'div', 'mlnb-gauges');
    this.element.hidden = true;
    this.element.setAttribute('aria-hidden', 'true'); // the table holds the same
  }

  show(resourceMetrics: ReadonlyMap<string, Series>, readings: ReadonlyMap<string, Reading>): void {
    const gauges = new Map<string, Gauge>();
    for (const [name, reading] of readings) {
      const key = `${reading.node} ${reading.gauge}`;
      const values = resourceMetrics.get(name)?.columns().y.subarray(-NEWEST) ?? new Float64Array();
      const gauge = gauges.get(key) ?? { node: reading.node, name: reading.gauge, shown: [], values };
      gauge.shown.push(reading);
      gauges.set(key, gauge);
    }
    this.layOut(gauges);
    for (const { key, cell } of this.cells) {
      const gauge = gauges.get(key);
      if (gauge !== undefined) {
        cell.show(gauge.name, gauge.shown, gauge.values);
      }
    }
    this.element.hidden = gauges.size === 0;
  }

  /** Makes the cells anew if there are others than before; each node begins with its name. */
  private layOut(gauges: ReadonlyMap<string, Gauge>): void {
    const layout = JSON.stringify([...gauges.keys()]);
    if (layout === this.layout) {
      return;
    }
    this.layout = layout;
    this.element.replaceChildren();
    this.cells = [];
    let before = '';
    for (const [key, { node }] of gauges) {
      if (node !== before) {
        add(this.element, 'div', 'mlnb-gauge-node', node);
        before = node;
      }
      const cell = new Cell();
      this.element.append(cell.element);
      this.cells.push({ key, cell });
    }
  }
}

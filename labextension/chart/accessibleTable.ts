import { add } from './dom';
import { formatStep, formatValue } from './format';
import type { Reading } from './gauges/readings';
import type { Series } from './plot/series';
import { nonFiniteText, summarise } from './plot/summary';

const COLUMNS = ['metric', 'points', 'steps', 'last', 'lowest', 'highest', 'not finite'];

/** The curves as a table, for those who cannot see them. */
export class AccessibleTable {
  private readonly rows: HTMLElement;

  constructor(parent: HTMLElement) {
    // In an element of its own: a table can't be made smaller than its text, and what is larger could be scrolled to.
    const table = add(add(parent, 'div', 'mlnb-visually-hidden'), 'table', '');
    add(table, 'caption', '', 'The metrics of this run');
    const head = add(add(table, 'thead', ''), 'tr', '');
    for (const column of COLUMNS) {
      add(head, 'th', '', column).scope = 'col';
    }
    this.rows = add(table, 'tbody', '');
  }

  show(metrics: ReadonlyMap<string, Series>, readings: ReadonlyMap<string, Reading>): void {
    this.rows.replaceChildren();
    for (const [name, series] of metrics) {
      const summary = summarise(series.columns(), series.total);
      const cells = [
        String(summary.count),
        `${formatStep(summary.firstStep)} to ${formatStep(summary.lastStep)}`,
        formatValue(summary.last),
        formatValue(summary.lowest),
        formatValue(summary.highest),
        nonFiniteText(summary) || 'none'
      ];
      this.add(name, cells);
    }
    for (const { label, statistic, count, value, lowest, highest } of readings.values()) {
      this.add(label, [String(count), '', statistic === '' ? value : `${statistic} ${value}`, lowest, highest, '']);
    }
  }

  private add(name: string, cells: readonly string[]): void {
    const row = add(this.rows, 'tr', '');
    add(row, 'th', '', name).scope = 'row';
    for (const cell of cells) {
      add(row, 'td', '', cell);
    }
  }
}

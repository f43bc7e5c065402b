import { add } from '../dom';
import { formatStepTime, formatTime, formatValue } from '../format';
import type { Series } from '../plot/series';
import { epochsOf, type EpochRow, type Epochs } from './epochs';

/** Rows that are shown until a button is pressed: the newest. */
const FEW_ROWS = 10;
const MOST_METRICS = 6;

/** One line with the epoch and a bar; opened, a table of the epochs. */
export class EpochPanel {
  private readonly element: HTMLDetailsElement;
  private readonly text: HTMLElement;
  private readonly bar: HTMLProgressElement;
  private readonly table: HTMLTableElement;
  private readonly more: HTMLButtonElement;
  private showsAll = false;
  private epochs: Epochs | undefined;

  constructor(parent: HTMLElement) {
    this.element = add(parent, 'details', 'mlnb-epochs');
    this.element.hidden = true;
    const summary = add(this.element, 'summary', '');
    this.text = add(summary, 'span', 'mlnb-epoch');
    this.bar = add(summary, 'progress', 'mlnb-progress');
    this.bar.max = 1;
    this.bar.setAttribute('aria-label', 'epochs done');
    this.more = add(this.element, 'button', 'mlnb-button');
    this.more.type = 'button';
    this.more.addEventListener('click', () => {
      this.showsAll = true;
      this.showTable();
    });
    this.table = add(this.element, 'table', 'mlnb-epoch-table');
    this.element.addEventListener('toggle', () => {
      this.showTable();
    });
  }

  /** `step`: the newest of the run. */
  show(resourceMetrics: ReadonlyMap<string, Series>, step: number, active: boolean): void {
    const epochs = epochsOf(resourceMetrics, step);
    this.epochs = epochs;
    this.element.hidden = epochs === undefined || epochs.rows.length === 0;
    if (epochs === undefined) {
      return;
    }
    this.bar.hidden = epochs.fraction === undefined || (!active && epochs.fraction === 1);
    this.bar.value = epochs.fraction ?? 0;
    const text = summaryText(epochs, active);
    if (this.text.textContent !== text) {
      this.text.textContent = text;
    }
    this.showTable();
  }

  private showTable(): void {
    if (this.epochs === undefined || !this.element.open) {
      return;
    }
    const { rows } = this.epochs;
    const metrics = this.epochs.metrics.slice(0, MOST_METRICS);
    this.more.hidden = this.showsAll || rows.length <= FEW_ROWS;
    this.more.textContent = `Show all ${rows.length} epochs`;
    const shown = this.showsAll ? rows : rows.slice(-FEW_ROWS);
    const head = add(document.createElement('thead'), 'tr', '');
    for (const name of ['epoch', ...metrics, 'time']) {
      add(head, 'th', '', name).scope = 'col';
    }
    const body = document.createElement('tbody');
    for (const row of shown) {
      addRow(body, row, metrics.length);
    }
    this.table.replaceChildren(...(head.parentElement === null ? [] : [head.parentElement]), body);
  }
}

function addRow(body: HTMLElement, { number, means, seconds }: EpochRow, metrics: number): void {
  const row = add(body, 'tr', '');
  add(row, 'th', '', String(number)).scope = 'row';
  for (const mean of means.slice(0, metrics)) {
    add(row, 'td', '', mean === undefined ? '' : formatValue(mean));
  }
  add(row, 'td', '', seconds === undefined ? 'so far' : formatStepTime(seconds));
}

/** `epoch 3/10 · 12 s each`. */
export function summaryText({ total, done, rows }: Epochs, active: boolean): string {
  const running = Math.max(done, Math.min(total ?? Infinity, done + 1));
  const ended = total === undefined ? rows.length : done;
  const times = rows.flatMap(({ seconds }) => (seconds === undefined ? [] : [seconds]));
  const mean = times.reduce((sum, seconds) => sum + seconds, 0) / times.length;
  const text =
    active || (total !== undefined && done < total)
      ? `epoch ${active ? running : done}${total === undefined ? '' : `/${total}`}`
      : `${ended} epoch${ended === 1 ? '' : 's'}`;
  return times.length === 0 ? text : `${text} · ${mean < 10 ? formatStepTime(mean) : formatTime(mean)} each`;
}

import { add } from '../dom';
import { formatValue } from '../format';
import type { Visibility } from './visibility';

interface Entry {
  button: HTMLButtonElement;
  value: HTMLElement;
}

/**
 * A button for each curve of a chart, with its value at the cursor. A click shows or hides the curve, a double click
 * shows it alone; so do Enter and Shift+Enter.
 */
export class Legend {
  private readonly element: HTMLElement;
  private readonly entries = new Map<string, Entry>();
  /** What was hidden before the first click of a double click. */
  private before: ReadonlySet<string> = new Set();

  constructor(
    parent: HTMLElement,
    private readonly visibility: Visibility,
    private readonly onChange: () => void
  ) {
    this.element = add(parent, 'div', 'mlnb-legend');
    this.element.setAttribute('role', 'group');
    this.element.setAttribute('aria-label', 'Curves');
    this.element.hidden = true;
  }

  /** The curves of a chart, in the order of their colours; one alone needs no legend. */
  show(metrics: readonly string[]): void {
    this.entries.clear();
    this.element.replaceChildren();
    this.element.hidden = metrics.length < 2;
    metrics.forEach((metric, colour) => {
      this.entries.set(metric, this.entry(metric, colour));
    });
    this.update();
  }

  showValue(metric: string, value: number | undefined): void {
    const entry = this.entries.get(metric);
    const text = value === undefined ? '–' : formatValue(value);
    if (entry !== undefined && entry.value.textContent !== text) {
      entry.value.textContent = text;
    }
  }

  private update(): void {
    for (const [metric, { button }] of this.entries) {
      button.setAttribute('aria-pressed', String(this.visibility.has(metric)));
    }
  }

  private entry(metric: string, colour: number): Entry {
    const button = add(this.element, 'button', 'mlnb-legend-entry');
    button.type = 'button';
    button.style.setProperty('--colour', `var(--mlnb-line${colour === 0 ? '' : `-${colour + 1}`})`);
    button.title = 'Click to show or hide, double click to show alone (Enter, Shift+Enter)';
    add(button, 'span', 'mlnb-legend-name', metric);
    const value = add(button, 'span', 'mlnb-legend-value');
    button.addEventListener('click', event => {
      if (event.shiftKey) {
        this.visibility.isolate(metric);
      } else {
        this.before = event.detail === 1 ? this.visibility.snapshot() : this.before;
        this.visibility.toggle(metric);
      }
      this.change();
    });
    button.addEventListener('dblclick', () => {
      this.visibility.restore(this.before);
      this.visibility.isolate(metric);
      this.change();
    });
    return { button, value };
  }

  private change(): void {
    this.update();
    this.onChange();
  }
}

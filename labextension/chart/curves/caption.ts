import { add } from '../dom';
import { formatStep, formatValue } from '../format';
import type { Hover } from '../plot/plot';

export interface CaptionEvents {
  choose: (metric: string) => void;
  resetZoom: () => void;
}

/** The line between header and curve: which metric, what could not be drawn, the point under the mouse. */
export class Caption {
  private readonly choice: HTMLSelectElement;
  private readonly label: HTMLElement;
  private readonly nonFinite: HTMLElement;
  private readonly readout: HTMLElement;
  private readonly reset: HTMLButtonElement;

  constructor(parent: HTMLElement, events: CaptionEvents) {
    const element = add(parent, 'div', 'mlnb-caption');
    this.label = add(element, 'span', 'mlnb-metric');
    this.choice = add(element, 'select', 'mlnb-metric');
    this.choice.setAttribute('aria-label', 'Metric to show');
    this.choice.addEventListener('change', () => {
      events.choose(this.choice.value);
    });
    this.nonFinite = add(element, 'span', 'mlnb-non-finite');
    this.readout = add(element, 'span', 'mlnb-readout');
    this.reset = add(element, 'button', 'mlnb-button', 'Show all steps');
    this.reset.type = 'button';
    this.reset.hidden = true;
    this.reset.addEventListener('click', events.resetZoom);
  }

  /** One metric is a label, several are a choice. */
  showMetrics(names: readonly string[], shown: string): void {
    this.label.textContent = shown;
    this.label.hidden = names.length > 1;
    this.choice.hidden = names.length < 2;
    if (this.choice.length !== names.length) {
      this.choice.replaceChildren(...names.map(name => new Option(name)));
    }
    this.choice.value = shown;
  }

  showPoint(point: Hover | undefined): void {
    this.readout.textContent =
      point === undefined ? '' : `step ${formatStep(point.step)} · ${formatValue(point.value)}`;
  }

  showNonFinite(text: string): void {
    this.nonFinite.textContent = text;
  }

  showZoomed(zoomed: boolean): void {
    this.reset.hidden = !zoomed;
  }
}

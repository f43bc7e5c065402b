import { add } from '../dom';
import { formatStep, formatValue } from '../format';

export interface CaptionEvents {
  choose: (label: string) => void;
  resetZoom: () => void;
  setLogarithmic: (logarithmic: boolean) => void;
  setAllValues: (all: boolean) => void;
}

/** The line between header and curves: which chart, what is not drawn, the step under the cursor, how it is drawn. */
export class Caption {
  private readonly choice: HTMLSelectElement;
  private readonly label: HTMLElement;
  private readonly readout: HTMLElement;
  private readonly reset: HTMLButtonElement;
  private readonly logarithmic: HTMLButtonElement;
  private readonly allValues: HTMLButtonElement;

  constructor(parent: HTMLElement, events: CaptionEvents) {
    const element = add(parent, 'div', 'mlnb-caption');
    this.label = add(element, 'span', 'mlnb-metric');
    this.choice = add(element, 'select', 'mlnb-metric');
    this.choice.setAttribute('aria-label', 'Metric to show');
    this.choice.addEventListener('change', () => {
      events.choose(this.choice.value);
    });
    this.readout = add(element, 'span', 'mlnb-readout');
    const tools = add(element, 'span', 'mlnb-tools');
    this.reset = button(tools, 'Show all steps', events.resetZoom);
    this.reset.hidden = true;
    this.allValues = button(tools, '', () => {
      events.setAllValues(!isPressed(this.allValues));
    });
    this.allValues.textContent = 'all values';
    this.allValues.title = 'Show also the values that lie far from the others';
    this.allValues.hidden = true;
    this.logarithmic = button(tools, 'log', () => {
      const pressed = !isPressed(this.logarithmic);
      setPressed(this.logarithmic, pressed);
      events.setLogarithmic(pressed);
    });
    this.logarithmic.title = 'Logarithmic y axis';
    setPressed(this.logarithmic, false);
    setPressed(this.allValues, false);
  }

  /** One chart has a label, several are a choice. */
  showCharts(labels: readonly string[], shown: string): void {
    this.label.textContent = shown;
    this.label.hidden = labels.length > 1;
    this.choice.hidden = labels.length < 2;
    if (this.choice.length !== labels.length || [...this.choice.options].some(({ value }, i) => value !== labels[i])) {
      this.choice.replaceChildren(...labels.map(label => new Option(label)));
    }
    this.choice.value = shown;
  }

  /** The step under the cursor, and the value if there is one curve: of several, the legend has the values. */
  showPoint(step: number | undefined, value: number | undefined): void {
    const parts = step === undefined ? [] : [`step ${formatStep(step)}`];
    const text = [...parts, ...(value === undefined ? [] : [formatValue(value)])].join(' · ');
    if (this.readout.textContent !== text) {
      this.readout.textContent = text;
    }
  }

  showZoomed(zoomed: boolean): void {
    this.reset.hidden = !zoomed;
  }

  /** Whether there are outliers, and whether the axis reaches to them. */
  showOutliers(hasOutliers: boolean, showsAll: boolean): void {
    this.allValues.hidden = !hasOutliers;
    setPressed(this.allValues, showsAll);
  }
}

function button(parent: HTMLElement, text: string, onClick: () => void): HTMLButtonElement {
  const element = add(parent, 'button', 'mlnb-button', text);
  element.type = 'button';
  element.addEventListener('click', onClick);
  return element;
}

function isPressed(element: HTMLElement): boolean {
  return element.getAttribute('aria-pressed') === 'true';
}

function setPressed(element: HTMLElement, pressed: boolean): void {
  element.setAttribute('aria-pressed', String(pressed));
}

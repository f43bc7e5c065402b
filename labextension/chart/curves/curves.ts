import { add } from '../dom';
import { formatStep, formatValue } from '../format';
import { attemptsText } from '../plot/attempts';
import { lowerBound } from '../plot/decimate';
import { Plot, type Shown } from '../plot/plot';
import type { Series } from '../plot/series';
import { nonFiniteText, sentence, summarise } from '../plot/summary';
import type { Attempt } from '../run';
import { Caption } from './caption';
import { pressed } from './keys';
import { Legend } from './legend';
import { firstChoice, groupMetrics, type MetricGroup } from './metricGroups';
import { outsideText } from './outside';
import { Visibility } from './visibility';

const KEYS = 'Arrow keys move the cursor, Home and End to the ends; plus and minus zoom, 0 shows all steps.';
/** A drawing has other points outside; they are counted some time later. */
const TEXT_AFTER_MS = 250;

/** The metrics of a run as charts, one at a time: training and validation of the same quantity together. */
export class Curves {
  private readonly body: HTMLElement;
  private readonly caption: Caption;
  private readonly visibility = new Visibility();
  private readonly legend: Legend;
  private readonly host: HTMLElement;
  private readonly figure: HTMLElement;
  private readonly spoken: HTMLElement;
  private readonly nonFinite: HTMLElement;
  private readonly outside: HTMLElement;
  private readonly plot: Plot;
  private groups: MetricGroup[] = [];
  private shown: MetricGroup | undefined;
  private isChosen = false;
  private hasAllValues = false;
  private isLogarithmic = false;
  private cursor: number | undefined;
  private drawn: Shown | undefined;
  private attempts: readonly Attempt[] = [];
  private textTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    parent: HTMLElement,
    private readonly metrics: ReadonlyMap<string, Series>
  ) {
    this.body = add(parent, 'div', 'mlnb-body');
    this.caption = new Caption(this.body, {
      choose: label => {
        this.isChosen = true;
        this.choose(this.groups.find(group => group.label === label));
      },
      resetZoom: () => {
        this.plot.setZoom(undefined);
      },
      setLogarithmic: logarithmic => {
        this.isLogarithmic = logarithmic;
        this.plot.setLogarithmic(logarithmic);
        this.showText();
      },
      setAllValues: all => {
        this.setAllValues(all);
      }
    });
    this.legend = new Legend(this.body, this.visibility, () => {
      this.showCurves();
    });
    this.host = add(this.body, 'div', 'mlnb-chart');
    this.host.tabIndex = 0;
    this.host.setAttribute('role', 'application'); // so that a screen reader leaves the arrow keys to it
    this.host.setAttribute('aria-label', KEYS);
    this.host.addEventListener('keydown', event => {
      this.onKey(event);
    });
    this.figure = add(this.host, 'div', 'mlnb-plot');
    this.figure.setAttribute('role', 'img');
    this.spoken = add(this.body, 'div', 'mlnb-visually-hidden');
    this.spoken.setAttribute('aria-live', 'polite');
    const missing = add(this.body, 'div', 'mlnb-missing');
    this.nonFinite = add(missing, 'span', 'mlnb-non-finite');
    this.outside = add(missing, 'span', 'mlnb-outside');
    this.plot = new Plot(this.figure, {
      hover: step => {
        this.cursor = step;
        this.showPoint();
      },
      drawn: shown => {
        this.drawn = shown;
        this.caption.showZoomed(shown.isZoomed);
        this.caption.showOutliers(shown.hasOutliers, this.hasAllValues);
        this.textTimer ??= setTimeout(() => {
          this.showText();
        }, TEXT_AFTER_MS);
      },
      showAll: () => {
        this.plot.setZoom(undefined);
        this.setAllValues(true);
      }
    });
    leaveFocus(this.body);
    this.body.hidden = true;
  }

  mark(attempts: readonly Attempt[]): void {
    this.attempts = attempts;
    this.plot.mark(attempts);
  }

  /** The metrics have others than before. */
  showMetrics(): void {
    this.body.hidden = this.metrics.size === 0;
    this.groups = groupMetrics(this.metrics.keys());
    const chosen = this.isChosen ? this.groups.find(({ label }) => label === this.shown?.label) : undefined;
    this.choose(chosen ?? firstChoice(this.groups));
  }

  /** A metric has other points than before. */
  update(metric: string): void {
    if (this.shown?.metrics.includes(metric)) {
      this.plot.update();
      this.showPoint();
    }
  }

  /** What is told in words about the chart. It costs more than a drawing, so it may come later. */
  showText(): void {
    clearTimeout(this.textTimer);
    this.textTimer = undefined;
    const names = this.visible;
    const sentences: string[] = [];
    const nonFinite: string[] = [];
    const outside: string[] = [];
    for (const name of names) {
      const series = this.metrics.get(name);
      if (series === undefined) {
        continue;
      }
      const label = names.length > 1 ? `${name}: ` : '';
      const summary = summarise(series.columns(), series.total);
      sentences.push(sentence(name, summary));
      push(nonFinite, label, nonFiniteText(summary));
      if (this.drawn !== undefined) {
        push(outside, label, outsideText(series.columns(), this.drawn, this.isLogarithmic));
      }
    }
    const attempts = attemptsText(this.attempts);
    this.figure.setAttribute('aria-label', sentences.join(' ') + (attempts && ` It has ${attempts}.`));
    this.nonFinite.textContent = nonFinite.join(' · ');
    this.outside.textContent = outside.join(' · ');
  }

  dispose(): void {
    clearTimeout(this.textTimer);
    this.plot.dispose();
  }

  private get visible(): string[] {
    return (this.shown?.metrics ?? []).filter(name => this.visibility.has(name));
  }

  private choose(group: MetricGroup | undefined): void {
    const isSame =
      group !== undefined && group.label === this.shown?.label && String(group.metrics) === String(this.shown.metrics);
    if (group?.label !== this.shown?.label) {
      this.plot.setZoom(undefined);
      this.setAllValues(false);
    }
    this.shown = group;
    this.caption.showCharts(
      this.groups.map(({ label }) => label),
      group?.label ?? ''
    );
    if (!isSame) {
      this.visibility.show(group?.metrics ?? []);
      this.legend.show(group?.metrics ?? []);
    }
    this.showCurves();
  }

  private showCurves(): void {
    const curves = (this.shown?.metrics ?? []).map((name, colour) => ({ name, colour, series: this.metrics.get(name) }));
    this.plot.show(
      curves.flatMap(({ name, colour, series }) =>
        series !== undefined && this.visibility.has(name) ? [{ series, colour }] : []
      )
    );
    this.showText();
    this.showPoint();
  }

  private setAllValues(all: boolean): void {
    this.hasAllValues = all;
    this.plot.setAllValues(all);
  }

  /** Shows the values at the cursor, else the newest. */
  private showPoint(): void {
    let step = this.cursor;
    for (const metric of step === undefined ? (this.shown?.metrics ?? []) : []) {
      const last = this.metrics.get(metric)?.range()[1] ?? -Infinity;
      step = last === -Infinity ? step : Math.max(step ?? last, last);
    }
    const metrics = this.shown?.metrics ?? [];
    const values = metrics.map(metric => valueAt(this.metrics.get(metric), step));
    this.caption.showPoint(step, metrics.length === 1 ? values[0] : undefined);
    metrics.forEach((metric, i) => {
      this.legend.showValue(metric, values[i]);
    });
  }

  private onKey(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey) {
      return;
    }
    const { plot, cursor } = this;
    const view = { cursor, all: plot.allSteps, inView: plot.steps, drawn: plot.drawnSteps };
    const next = pressed(event.key, event.shiftKey, view);
    if (next === undefined) {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
    if (next.zoom?.[0] !== view.inView[0] || next.zoom[1] !== view.inView[1]) {
      plot.setZoom(next.zoom);
      plot.drawNow();
    }
    plot.pointAt(next.cursor);
    this.cursor = next.cursor;
    this.showPoint();
    this.speak(next.cursor);
  }

  private speak(step: number | undefined): void {
    const [from, to] = this.plot.steps;
    const values = this.visible.map(name => {
      const value = valueAt(this.metrics.get(name), step);
      return `${name} ${value === undefined ? 'no value yet' : formatValue(value)}`;
    });
    this.spoken.textContent =
      step === undefined
        ? `steps ${formatStep(Math.round(from))} to ${formatStep(Math.round(to))}`
        : `step ${formatStep(step)}: ${values.join(', ')}`;
  }
}

function push(texts: string[], label: string, text: string): void {
  if (text !== '') {
    texts.push(label + text);
  }
}

/** The newest value at or before a step. */
function valueAt(series: Series | undefined, step: number | undefined): number | undefined {
  if (series === undefined || step === undefined) {
    return undefined;
  }
  const { x, y } = series.columns();
  let index = lowerBound(x, step);
  while (index + 1 < x.length && x[index + 1] === step) {
    index++;
  }
  return y[x[index] === step ? index : index - 1];
}

/** The mouse leaves the focus where it is: so the front end's shortcuts go on. Those of the keyboard are ours in here. */
function leaveFocus(element: HTMLElement): void {
  element.dataset['lmSuppressShortcuts'] = 'true';
  element.addEventListener('mousedown', event => {
    if (!(event.target instanceof HTMLSelectElement)) {
      event.preventDefault();
    }
  });
}

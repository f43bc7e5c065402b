import { attemptsText } from './plot/attempts';
import { Caption } from './curves/caption';
import { Details, Traceback } from './details';
import type { Rich } from './display';
import { add } from './dom';
import { Gauges, isResourceMetric } from './gauges';
import { Header } from './header';
import { Resume, type ResumeInCell } from './resume';
import type { Stop } from './stopButton';
import type { Points } from './frame';
import { Plot, type Hover } from './plot/plot';
import { isActive, type Attempt, type Run } from './run';
import { Series } from './plot/series';
import { nonFiniteText, sentence, summarise } from './plot/summary';
import { AccessibleTable } from './accessibleTable';

const FIRST_CHOICE = 'loss';
const TEXT_EVERY_MS = 500;

/** One view of one run: its state and its curves. The owner passes it data and disposes of it. */
export class RunView {
  private readonly metrics = new Map<string, Series>();
  private readonly resourceMetrics = new Map<string, Series>();
  private readonly body: HTMLElement;
  private readonly header: Header;
  private readonly caption: Caption;
  private readonly figure: HTMLElement;
  private readonly empty: HTMLElement;
  private readonly plot: Plot;
  private readonly table: AccessibleTable;
  private readonly gauges: Gauges;
  private readonly details: Details;
  private readonly resume: Resume;
  private readonly traceback: Traceback;
  private shown = FIRST_CHOICE;
  private chosen = false;
  private active = false;
  private attempts: readonly Attempt[] = [];
  private hovered: Hover | undefined;
  private textTimer: ReturnType<typeof setTimeout> | undefined;

  /**
   * `rich` makes safe HTML of what the run displayed, in front ends that can. `resumeInCell` finds how to have the cell
   * around the view continue the run, in front ends that can.
   */
  constructor(parent: HTMLElement, rich?: Rich, resumeInCell?: (view: HTMLElement) => ResumeInCell | undefined) {
    const root = add(parent, 'section', 'mlnb-run');
    this.header = new Header(root);
    this.resume = new Resume(root, () => resumeInCell?.(root));
    this.traceback = new Traceback(root);
    this.empty = add(root, 'p', 'mlnb-empty');
    this.body = add(root, 'div', 'mlnb-body');
    this.caption = new Caption(this.body, {
      choose: metric => {
        this.chosen = true;
        this.choose(metric);
      },
      resetZoom: () => {
        this.plot.resetZoom();
      }
    });
    this.figure = add(this.body, 'div', 'mlnb-plot');
    this.figure.setAttribute('role', 'img');
    this.plot = new Plot(this.figure, new Series(), {
      hover: point => {
        this.hovered = point;
        this.showPoint();
      },
      zoom: zoomed => {
        this.caption.showZoomed(zoomed);
      }
    });
    this.body.hidden = true;
    this.gauges = new Gauges(root);
    this.table = new AccessibleTable(root);
    this.details = new Details(root, rich);
  }

  /** Whether the view shows the run's present state; if not, `note` may say why. */
  setLive(live: boolean, note = ''): void {
    this.header.setLive(live, note);
  }

  /** How to stop the run; undefined if it can't be stopped from here. */
  setStop(stop: Stop | undefined): void {
    this.header.setStop(stop);
  }

  showRun(run: Run): void {
    const ended = this.active && !isActive(run.state);
    this.active = isActive(run.state);
    this.attempts = run.attempts;
    this.plot.mark(run.attempts);
    if (ended) {
      this.showText();
    }
    this.header.show(run);
    this.resume.show(run);
    this.traceback.show(run);
    this.details.show(run);
    this.empty.textContent = isActive(run.state) ? 'No metrics yet.' : 'No metrics were logged.';
  }

  /** Puts points of a metric from `offset` on; false if points before them are missing. */
  putPoints({ metric, offset, steps, values, total }: Points): boolean {
    const group = isResourceMetric(metric) ? this.resourceMetrics : this.metrics;
    const isNew = !group.has(metric);
    const series = group.get(metric) ?? new Series();
    if (!series.put(offset, steps, values, total)) {
      return false;
    }
    group.set(metric, series);
    this.textTimer ??= setTimeout(() => {
      this.textTimer = undefined;
      this.showText();
    }, TEXT_EVERY_MS);
    if (group === this.resourceMetrics) {
      return true;
    }
    this.empty.hidden = true;
    this.body.hidden = false;
    if (isNew) {
      this.showMetrics();
    }
    if (metric === this.shown) {
      this.plot.update();
    }
    this.showPoint();
    return true;
  }

  /** Removes the metrics that are not among these names. */
  keepOnly(names: ReadonlySet<string>): void {
    const before = this.metrics.size;
    for (const group of [this.metrics, this.resourceMetrics]) {
      for (const name of group.keys()) {
        if (!names.has(name)) {
          group.delete(name);
        }
      }
    }
    this.empty.hidden = this.metrics.size > 0;
    this.body.hidden = this.metrics.size === 0;
    if (this.metrics.size < before) {
      this.showMetrics();
    }
  }

  /** The view is in the page now. */
  attached(): void {
    this.resume.offer();
  }

  dispose(): void {
    clearTimeout(this.textTimer);
    this.header.dispose();
    this.plot.dispose();
  }

  private showMetrics(): void {
    const [first = FIRST_CHOICE] = this.metrics.keys();
    const isChoiceValid = this.chosen && this.metrics.has(this.shown);
    this.choose(isChoiceValid ? this.shown : this.metrics.has(FIRST_CHOICE) ? FIRST_CHOICE : first);
  }

  private choose(metric: string): void {
    const series = this.metrics.get(metric) ?? new Series();
    this.shown = metric;
    this.plot.show(series);
    this.caption.showMetrics([...this.metrics.keys()], metric);
    this.showText();
    this.showPoint();
  }

  /** Shows the point under the mouse, else the newest. */
  private showPoint(): void {
    const { x, y } = this.metrics.get(this.shown)?.columns() ?? { x: [], y: [] };
    const last = x.length - 1;
    const newest = last < 0 ? undefined : { step: x[last] ?? NaN, value: y[last] ?? NaN };
    this.caption.showPoint(this.hovered ?? newest);
  }

  private showText(): void {
    this.gauges.show(this.resourceMetrics, this.active);
    this.table.show(this.metrics, this.resourceMetrics, this.active);
    const series = this.metrics.get(this.shown);
    if (series === undefined) {
      return;
    }
    const summary = summarise(series.columns(), series.total);
    const attempts = attemptsText(this.attempts);
    this.figure.setAttribute('aria-label', sentence(this.shown, summary) + (attempts && ` It has ${attempts}.`));
    this.caption.showNonFinite(nonFiniteText(summary));
  }
}

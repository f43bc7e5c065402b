import { AccessibleTable } from './accessibleTable';
import { Curves } from './curves/curves';
import { Details, Traceback } from './details';
import type { Rich } from './display';
import { EpochPanel } from './epochs/epochPanel';
import { add } from './dom';
import { Gauges } from './gauges/gauges';
import { isResourceMetric, readings } from './gauges/readings';
import { Header } from './head/header';
import { Resume, type ResumeInCell } from './head/resume';
import type { Stop } from './head/stopButton';
import type { Points } from './frame';
import { Series } from './plot/series';
import { isActive, type Run } from './run';

const TEXT_EVERY_MS = 500;

/** One view of one run: its state and its curves. The owner passes it data and disposes of it. */
export class RunView {
  private readonly metrics = new Map<string, Series>();
  private readonly resourceMetrics = new Map<string, Series>();
  private readonly header: Header;
  private readonly empty: HTMLElement;
  private readonly curves: Curves;
  private readonly epochs: EpochPanel;
  private readonly table: AccessibleTable;
  private readonly gauges: Gauges;
  private readonly details: Details;
  private readonly resume: Resume;
  private readonly traceback: Traceback;
  private active = false;
  private means: Run['means'] = new Map();
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
    this.curves = new Curves(root, this.metrics);
    this.epochs = new EpochPanel(root);
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
    this.means = run.means;
    this.curves.mark(run.attempts);
    if (ended) {
      this.showText();
    }
    this.header.show(run);
    this.resume.show(run);
    this.traceback.show(run.error);
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
    if (group === this.metrics) {
      this.empty.hidden = true;
      if (isNew) {
        this.curves.showMetrics();
      }
      this.curves.update(metric);
    }
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
    if (this.metrics.size < before) {
      this.curves.showMetrics();
    }
  }

  /** The view is in the page now. */
  attached(): void {
    this.resume.offer();
  }

  dispose(): void {
    clearTimeout(this.textTimer);
    this.header.dispose();
    this.traceback.dispose();
    this.details.dispose();
    this.curves.dispose();
  }

  private showText(): void {
    const newest = Math.max(0, ...[...this.metrics.values()].map(series => series.range()[1]));
    this.epochs.show(this.resourceMetrics, newest, this.active);
    const measured = readings(this.resourceMetrics, this.active, this.means);
    this.gauges.show(this.resourceMetrics, measured);
    this.table.show(this.metrics, measured);
    this.curves.showText();
  }
}

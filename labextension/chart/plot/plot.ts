import uPlot from 'uplot';
import type { Attempt } from '../run';
import { align, type Aligned } from './align';
import { drawAttempts } from './attempts';
import { decimate, type NonFinitePoint } from './decimate';
import { drawNonFinite } from './nonFinite';
import { Pace } from './pace';
import { lineWidth, plotOptions } from './plotOptions';
import { isOutside, robustExtremes, union, valueRange, widened, type Range } from './scale';
import type { Series } from './series';
import { onThemeChange, readTheme, type Theme } from './theme';
import { LINEAR, LOGARITHMIC, type YAxis } from './yAxis';

export interface Curve {
  series: Series;
  /** The number of the theme's line colour. */
  colour: number;
}

/** What a drawing shows, and what it leaves out. */
export interface Shown {
  /** Whether only some steps are shown. */
  isZoomed: boolean;
  steps: Range;
  /** The lowest and highest value that has a place. */
  values: Range;
  /** Whether there are values far from the others, in view or not. */
  hasOutliers: boolean;
}

export interface PlotEvents {
  /** The step under the mouse or the keyboard's cursor. */
  hover: (step: number | undefined) => void;
  drawn: (shown: Shown) => void;
  /** A double click: all steps, all values. */
  showAll: () => void;
}

/**
 * Curves over steps: drag to zoom. Each drawing decimates the raw columns for the range in view, so that zooming in
 * shows every point of it. Nothing is drawn while the chart is out of sight.
 */
export class Plot {
  private readonly resizes: ResizeObserver;
  private readonly sights: IntersectionObserver;
  private readonly endTheme: () => void;
  private chart: uPlot | undefined;
  private curves: readonly Curve[] = [];
  private aligned: Aligned = { x: [], ys: [] };
  private nonFinite: NonFinitePoint[] = [];
  private theme: Theme;
  private axis: YAxis = LINEAR;
  private hasAllValues = false;
  private zoom: Range | undefined;
  private attempts: readonly Attempt[] = [];
  /** The step at which the keyboard has put the cursor. */
  private pinned: number | undefined;
  private readonly pace = new Pace();
  private timer: ReturnType<typeof setTimeout> | undefined;
  private frame = 0;
  private isInSight = false;
  private isDue = false;

  constructor(
    private readonly host: HTMLElement,
    private readonly events: PlotEvents
  ) {
    this.theme = readTheme(host);
    this.endTheme = onThemeChange(() => {
      this.theme = readTheme(host);
      this.chart?.redraw(false, true);
    });
    // The observer also reports the first size, when the host enters the page; nothing can be drawn before.
    this.resizes = new ResizeObserver(() => {
      this.resize();
    });
    this.resizes.observe(host);
    this.sights = new IntersectionObserver(entries => {
      this.isInSight = entries[entries.length - 1]?.isIntersecting ?? false;
      if (this.isDue) {
        this.redraw();
      }
    });
    this.sights.observe(host);
    host.addEventListener('mousemove', () => {
      this.pinned = undefined;
    });
  }

  /** Draws these curves instead; the steps in view stay. */
  show(curves: readonly Curve[]): void {
    const isSame = (curve: Curve, i: number): boolean => curve.colour === this.curves[i]?.colour;
    const isChartSame = curves.length === this.curves.length && curves.every(isSame);
    this.curves = curves;
    if (!isChartSame) {
      this.remake();
    }
    this.redraw();
  }

  mark(attempts: readonly Attempt[]): void {
    if (JSON.stringify(attempts) !== JSON.stringify(this.attempts)) {
      this.attempts = attempts;
      this.redraw();
    }
  }

  setLogarithmic(logarithmic: boolean): void {
    this.axis = logarithmic ? LOGARITHMIC : LINEAR;
    this.remake();
    this.redraw();
  }

  /** Whether the y axis reaches to the outliers. */
  setAllValues(all: boolean): void {
    this.hasAllValues = all;
    this.redraw();
  }

  /** Shows these steps; all if undefined. */
  setZoom(zoom: Range | undefined): void {
    this.zoom = zoom;
    this.redraw();
  }

  /** The steps of all curves. */
  get allSteps(): Range {
    return widened(...union(this.curves.map(({ series }) => series.range())));
  }

  get steps(): Range {
    return this.zoom ?? this.allSteps;
  }

  /** The steps that are drawn: a zoomed view has all of its range. */
  get drawnSteps(): readonly number[] {
    return this.aligned.x;
  }

  /** Puts the cursor at a step, where it stays until the mouse moves it. */
  pointAt(step: number | undefined): void {
    this.pinned = step;
    const { chart } = this;
    const left = step === undefined ? -10 : (chart?.valToPos(step, 'x') ?? -10);
    chart?.setCursor({ left, top: step === undefined ? -10 : chart.over.clientHeight / 2 });
  }

  /** The curves have other points: draws them when there is time for it. */
  update(): void {
    this.isDue = true;
    if (this.isInSight && this.frame === 0) {
      this.timer ??= setTimeout(() => {
        this.redraw();
      }, this.pace.wait(performance.now()));
    }
  }

  /** Draws at once, not in the next frame. */
  drawNow(): void {
    clearTimeout(this.timer);
    cancelAnimationFrame(this.frame);
    this.timer = undefined;
    this.frame = 0;
    this.isDue = false;
    this.draw();
  }

  /** Draws in the next animation frame, once however often this is called; if it is out of sight, when it comes in. */
  private redraw(): void {
    this.isDue = true;
    if (this.isInSight) {
      this.frame ||= requestAnimationFrame(() => {
        const began = performance.now();
        this.drawNow();
        afterPaint(() => {
          this.pace.drew(began, performance.now());
        });
      });
    }
  }

  dispose(): void {
    clearTimeout(this.timer);
    cancelAnimationFrame(this.frame);
    this.resizes.disconnect();
    this.sights.disconnect();
    this.endTheme();
    this.chart?.destroy();
  }

  private remake(): void {
    this.chart?.destroy();
    this.chart = undefined;
    this.resize();
  }

  private resize(): void {
    const { clientWidth: width, clientHeight: height } = this.host;
    if (width === 0 || height === 0) {
      return;
    }
    if (this.chart === undefined) {
      this.theme = readTheme(this.host);
      const options = plotOptions({
        width,
        height,
        colours: this.curves.map(({ colour }) => colour),
        theme: () => this.theme,
        axis: () => this.axis,
        draw: chart => {
          drawAttempts(chart, this.attempts, this.theme.muted, this.theme.font);
          drawNonFinite(chart, this.nonFinite, this.theme.alarm);
        },
        hover: index => {
          this.events.hover(this.pinned ?? this.aligned.x[index ?? -1]);
        },
        select: chart => {
          this.select(chart);
        },
        showAll: this.events.showAll
      });
      this.chart = new uPlot(options, [[], ...this.curves.map(() => [])], this.host);
    } else {
      this.chart.setSize({ width, height });
    }
    this.redraw();
  }

  private draw(): void {
    const chart = this.chart;
    if (chart === undefined) {
      return;
    }
    const [from, to] = this.steps;
    const width = chart.bbox.width / devicePixelRatio;
    const drawings = this.curves.map(({ series }) => {
      const { x, y, blocks } = series.columns();
      return decimate(x, y, from, to, width, blocks);
    });
    const { position } = this.axis;
    const placed = drawings.map(({ x, y }) => ({ x, y: y.map(value => (value === null ? null : position(value))) }));
    const all = valueRange(union(placed.map(({ y }) => robustExtremes(y, 0))));
    const robust = valueRange(union(placed.map(({ y }) => robustExtremes(y))));
    const range = this.hasAllValues ? all : robust;
    this.nonFinite = drawings.flatMap(({ nonFinite }) => nonFinite);
    this.aligned = align(placed);
    drawings.forEach(({ x }, i) => {
      const line = chart.series[i + 1];
      if (line !== undefined) {
        line.width = lineWidth(x.length, width);
      }
    });
    chart.batch(() => {
      chart.setData([this.aligned.x, ...this.aligned.ys] as uPlot.AlignedData, false);
      chart.setScale('x', { min: from, max: to });
      chart.setScale('y', { min: range[0], max: range[1] });
    });
    if (this.pinned !== undefined) {
      this.pointAt(this.pinned);
    }
    this.events.drawn({
      isZoomed: this.zoom !== undefined,
      steps: [from, to],
      values: [this.axis.value(range[0]), this.axis.value(range[1])],
      hasOutliers: isOutside(all, robust)
    });
  }

  private select(chart: uPlot): void {
    const { left, width } = chart.select;
    if (width > 2) {
      this.setZoom([chart.posToVal(left, 'x'), chart.posToVal(left + width, 'x')]);
    }
    chart.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  }
}

/** Calls back when the frame that is being made has been painted. */
function afterPaint(callback: () => void): void {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => {
    port1.close();
    callback();
  };
  port2.postMessage(0);
}

import uPlot from 'uplot';
import { drawAttempts } from './attempts';
import { decimate, type Drawing } from './decimate';
import { formatStep, formatTicks } from '../format';
import { drawNonFinite } from './nonFinite';
import type { Attempt } from '../run';
import { stepRange, valueRange, type Range } from './scale';
import type { Series } from './series';
import { onThemeChange, readTheme, type Theme } from './theme';

export interface Hover {
  step: number;
  /** NaN where the line is interrupted. */
  value: number;
}

export interface PlotEvents {
  hover: (point: Hover | undefined) => void;
  zoom: (zoomed: boolean) => void;
}

const EMPTY: Drawing = { x: [], y: [], nonFinite: [] };

// Steps are counted, so no tick lies between two of them.
const STEP_INCREMENTS = Array.from({ length: 16 }, (_, power) => [1, 2, 5].map(digit => digit * 10 ** power)).flat();

const LABEL_CHARACTER_PX = 7;

/** The width of the y axis in CSS pixels, for its longest label. */
function axisWidth(labels: readonly string[] | null): number {
  return 12 + LABEL_CHARACTER_PX * Math.max(3, ...(labels ?? []).map(label => label.length));
}

/**
 * The curve of one series: drag to zoom, double click to see all again. Each drawing decimates the raw
 * columns for the range in view, so that zooming in shows every point of it.
 */
export class Plot {
  private readonly resizes: ResizeObserver;
  private readonly endTheme: () => void;
  private chart: uPlot | undefined;
  private drawing = EMPTY;
  private theme: Theme;
  private zoom: Range | undefined;
  private attempts: readonly Attempt[] = [];
  private frame = 0;

  constructor(
    private readonly host: HTMLElement,
    private series: Series,
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
  }

  show(series: Series): void {
    this.series = series;
    this.resetZoom();
  }

  mark(attempts: readonly Attempt[]): void {
    if (JSON.stringify(attempts) !== JSON.stringify(this.attempts)) {
      this.attempts = attempts;
      this.update();
    }
  }

  /** Draws the series in the next animation frame, once however often this is called. */
  update(): void {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  resetZoom(): void {
    this.setZoom(undefined);
  }

  dispose(): void {
    cancelAnimationFrame(this.frame);
    this.resizes.disconnect();
    this.endTheme();
    this.chart?.destroy();
  }

  private setZoom(zoom: Range | undefined): void {
    this.zoom = zoom;
    this.events.zoom(zoom !== undefined);
    this.update();
  }

  private resize(): void {
    const { clientWidth: width, clientHeight: height } = this.host;
    if (width === 0 || height === 0) {
      return;
    }
    if (this.chart === undefined) {
      this.theme = readTheme(this.host);
      this.chart = new uPlot(this.options(width, height), [[], []], this.host);
    } else {
      this.chart.setSize({ width, height });
    }
    this.update();
  }

  private draw(): void {
    const chart = this.chart;
    if (chart === undefined) {
      return;
    }
    const { x, y } = this.series.columns();
    const [from, to] = this.zoom ?? stepRange(x);
    this.drawing = decimate(x, y, from, to, chart.bbox.width / devicePixelRatio);
    const [low, high] = valueRange(this.drawing.y);
    chart.batch(() => {
      chart.setData([this.drawing.x, this.drawing.y], false);
      chart.setScale('x', { min: from, max: to });
      chart.setScale('y', { min: low, max: high });
    });
  }

  private options(width: number, height: number): uPlot.Options {
    const axis = (): uPlot.Axis => ({
      font: this.theme.font,
      stroke: () => this.theme.muted,
      grid: { stroke: () => this.theme.grid, width: 1 },
      ticks: { show: false }
    });
    // uPlot would widen ranges by itself; draw() has chosen them.
    const asGiven: uPlot.Range.Function = (_, low, high) => [low, high];
    return {
      width,
      height,
      padding: [8, 20, 0, 0],
      legend: { show: false },
      scales: { x: { time: false, range: asGiven }, y: { range: asGiven } },
      axes: [
        { ...axis(), size: 24, gap: 4, incrs: STEP_INCREMENTS, values: (_, ticks) => ticks.map(formatStep) },
        { ...axis(), size: (_, labels) => axisWidth(labels), gap: 6, values: (_, ticks) => formatTicks(ticks) }
      ],
      series: [
        {},
        {
          stroke: () => this.theme.line,
          width: 1.5,
          points: { size: 5, width: 0, stroke: () => this.theme.line, fill: () => this.theme.line }
        }
      ],
      cursor: {
        y: false,
        drag: { x: true, y: false, setScale: false },
        bind: {
          dblclick: () => () => {
            this.resetZoom();
            return null;
          }
        }
      },
      hooks: {
        draw: [
          chart => {
            drawAttempts(chart, this.attempts, this.theme.muted, this.theme.font);
            drawNonFinite(chart, this.drawing.nonFinite, this.theme.alarm);
          }
        ],
        setCursor: [
          chart => {
            this.events.hover(this.pointAt(chart.cursor.idx));
          }
        ],
        setSelect: [
          chart => {
            this.select(chart);
          }
        ]
      }
    };
  }

  private pointAt(index: number | null | undefined): Hover | undefined {
    const step = this.drawing.x[index ?? -1];
    return step === undefined ? undefined : { step, value: this.drawing.y[index ?? -1] ?? NaN };
  }

  private select(chart: uPlot): void {
    const { left, width } = chart.select;
    if (width > 2) {
      this.setZoom([chart.posToVal(left, 'x'), chart.posToVal(left + width, 'x')]);
    }
    chart.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  }
}

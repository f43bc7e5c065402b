import type uPlot from 'uplot';
import { formatStep } from '../format';
import type { Theme } from './theme';
import type { YAxis } from './yAxis';

// Steps are counted, so no tick lies between two of them.
const STEP_INCREMENTS = Array.from({ length: 16 }, (_, power) => [1, 2, 5].map(digit => digit * 10 ** power)).flat();

const LABEL_CHARACTER_PX = 7;

/** The width of the y axis in CSS pixels, for its longest label. */
function axisWidth(labels: readonly string[] | null): number {
  return 12 + LABEL_CHARACTER_PX * Math.max(3, ...(labels ?? []).map(label => label.length));
}

/**
 * The width of a line in CSS pixels. One that fills the pixels is as thin as can be: browsers draw lines of one device
 * pixel a hundred times faster than wider ones, which would block the page for a tenth of a second.
 */
export function lineWidth(points: number, pixels: number): number {
  return points > pixels ? 1 / devicePixelRatio : 1.5;
}

/** Of a curve with so few points, each is marked. */
const FEW_POINTS = 40;

function isSparse(values: ArrayLike<number | null | undefined> | undefined): boolean {
  let count = 0;
  for (let i = 0; i < (values?.length ?? 0) && count <= FEW_POINTS; i++) {
    count += typeof values?.[i] === 'number' ? 1 : 0;
  }
  return count <= FEW_POINTS;
}

export interface PlotOptions {
  width: number;
  height: number;
  /** Numbers of the theme's line colours, one for each curve. */
  colours: readonly number[];
  theme: () => Theme;
  axis: () => YAxis;
  draw: (chart: uPlot) => void;
  hover: (index: number | null | undefined) => void;
  select: (chart: uPlot) => void;
  showAll: () => void;
}

/** How uPlot draws the curves: as told, with no ranges, legend or zoom of its own. */
export function plotOptions(options: PlotOptions): uPlot.Options {
  const { theme, axis } = options;
  const common = (): uPlot.Axis => ({
    font: theme().font,
    stroke: () => theme().muted,
    grid: { stroke: () => theme().grid, width: 1 },
    ticks: { show: false }
  });
  const asGiven: uPlot.Range.Function = (_, low, high) => [low, high];
  const x: uPlot.Axis = {
    ...common(),
    size: 24,
    gap: 4,
    incrs: STEP_INCREMENTS,
    values: (_, ticks) => ticks.map(formatStep)
  };
  const y: uPlot.Axis = {
    ...common(),
    size: (_, labels) => axisWidth(labels),
    gap: 6,
    values: (_, ticks) => axis().labels(ticks)
  };
  const chosen = axis().ticks;
  if (chosen !== undefined) {
    y.splits = (_, __, low, high) => chosen([low, high]);
  }
  return {
    width: options.width,
    height: options.height,
    padding: [8, 20, 0, 0],
    legend: { show: false },
    scales: { x: { time: false, range: asGiven }, y: { range: asGiven } },
    axes: [x, y],
    series: [
      {},
      ...options.colours.map((colour): uPlot.Series => {
        const line = (): string => theme().lines[colour] ?? theme().ink;
        const show = (chart: uPlot, index: number): boolean => isSparse(chart.data[index]);
        return { stroke: line, width: 1.5, points: { show, size: 5, width: 0, stroke: line, fill: line } };
      })
    ],
    cursor: {
      y: false,
      points: { size: 7 },
      drag: { x: true, y: false, setScale: false },
      bind: {
        dblclick: () => () => {
          options.showAll();
          return null;
        }
      }
    },
    hooks: {
      draw: [options.draw],
      setCursor: [
        chart => {
          options.hover(chart.cursor.idx);
        }
      ],
      setSelect: [options.select]
    }
  };
}

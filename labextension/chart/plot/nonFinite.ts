import type uPlot from 'uplot';
import type { NonFinitePoint } from './decimate';

const SIZE = 4;

/** Draws a mark at the chart's edge for each value that has no place on its axis: × NaN, ▲ ∞, ▼ −∞. */
export function drawNonFinite(plot: uPlot, marks: readonly NonFinitePoint[], colour: string): void {
  const { ctx, bbox } = plot;
  const size = SIZE * devicePixelRatio;
  ctx.save();
  ctx.fillStyle = ctx.strokeStyle = colour;
  ctx.lineWidth = 1.5 * devicePixelRatio;
  for (const { x, kind } of marks) {
    const left = plot.valToPos(x, 'x', true);
    if (left < bbox.left - 1 || left > bbox.left + bbox.width + 1) {
      continue;
    }
    const top = kind === 'inf' ? bbox.top + size : bbox.top + bbox.height - size;
    ctx.beginPath();
    if (kind === 'nan') {
      ctx.moveTo(left - size, top - size);
      ctx.lineTo(left + size, top + size);
      ctx.moveTo(left - size, top + size);
      ctx.lineTo(left + size, top - size);
      ctx.stroke();
    } else {
      const tip = kind === 'inf' ? -size : size;
      ctx.moveTo(left, top + tip);
      ctx.lineTo(left - size, top - tip);
      ctx.lineTo(left + size, top - tip);
      ctx.fill();
    }
  }
  ctx.restore();
}

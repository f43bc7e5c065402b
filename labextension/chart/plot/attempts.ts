import type uPlot from 'uplot';
import { formatStep } from '../format';
import type { Attempt } from '../run';

/** Draws a thin line and a label where each later attempt begins. */
export function drawAttempts(plot: uPlot, attempts: readonly Attempt[], colour: string, font: string): void {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.strokeStyle = ctx.fillStyle = colour;
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio]);
  ctx.font = font.replace(/^(\d+)px/, (_, size: string) => `${Number(size) * devicePixelRatio}px`);
  ctx.textBaseline = 'top';
  ctx.textAlign = 'left';
  let nextFree = -Infinity;
  for (const { number, step } of attempts) {
    const left = Math.round(plot.valToPos(step, 'x', true)) + 0.5;
    if (left < bbox.left || left > bbox.left + bbox.width) {
      continue;
    }
    ctx.beginPath();
    ctx.moveTo(left, bbox.top);
    ctx.lineTo(left, bbox.top + bbox.height);
    ctx.stroke();
    const label = `attempt ${number}`;
    const width = ctx.measureText(label).width;
    const room = 4 * devicePixelRatio;
    const start = left + room + width > bbox.left + bbox.width ? left - room - width : left + room;
    if (start > nextFree) {
      ctx.fillText(label, start, bbox.top + devicePixelRatio);
      nextFree = start + width + room;
    }
  }
  ctx.restore();
}

/** The same as text; empty if there was one attempt. */
export function attemptsText(attempts: readonly Attempt[]): string {
  return attempts.map(({ number, step }) => `attempt ${number} from step ${formatStep(step)}`).join(', ');
}

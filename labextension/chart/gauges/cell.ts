import { add } from '../dom';
import type { Reading } from './readings';

const SVG = 'http://www.w3.org/2000/svg';
const WIDTH = 72;
const HEIGHT = 18;

/** One gauge: its name, its values and a small curve. */
export class Cell {
  readonly element = document.createElement('div');
  private readonly label = add(this.element, 'span', 'mlnb-gauge-label');
  private readonly value = add(this.element, 'span', 'mlnb-gauge-value');
  private readonly svg = document.createElementNS(SVG, 'svg');
  private readonly line = document.createElementNS(SVG, 'polyline');

  constructor() {
    this.element.className = 'mlnb-gauge';
    this.svg.setAttribute('viewBox', `0 0 ${WIDTH} ${HEIGHT}`);
    this.svg.append(this.line);
    this.element.append(this.svg);
  }

  show(name: string, shown: readonly Reading[], values: Float64Array): void {
    this.label.textContent = name;
    this.value.textContent = shown
      .map(({ statistic, value }, i) =>
        statistic === '' || statistic === shown[i - 1]?.statistic ? value : `${statistic} ${value}`
      )
      .join(' · ');
    this.element.title = shown
      .map(({ label, lowest, highest }) => `${label}: lowest ${lowest}, highest ${highest}`)
      .join('\n');
    const highest = values.reduce((most, value) => (Number.isFinite(value) ? Math.max(most, value) : most), 0);
    const points: string[] = [];
    values.forEach((value, i) => {
      if (Number.isFinite(value)) {
        const x = (i * WIDTH) / Math.max(1, values.length - 1);
        const y = HEIGHT - 1 - (highest > 0 ? (value / highest) * (HEIGHT - 3) : 0);
        points.push(`${x.toFixed(1)},${y.toFixed(1)}`);
      }
    });
    this.line.setAttribute('points', points.length > 1 ? points.join(' ') : '');
    this.svg.style.visibility = points.length > 1 ? 'visible' : 'hidden';
  }
}

/** Short text for a value of a metric: enough digits to see a difference, never a wall of them. */
export function formatValue(value: number): string {
  if (!Number.isFinite(value)) {
    return Number.isNaN(value) ? 'NaN' : value > 0 ? '∞' : '−∞';
  }
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) {
    return minus(value.toExponential(2).replace('e+', 'e'));
  }
  return minus(String(Number(value.toPrecision(4))));
}

/** Text for a step, with thin spaces between thousands. */
export function formatStep(step: number): string {
  const [whole = '', fraction] = String(Math.abs(step)).split('.');
  const grouped = whole.includes('e') ? whole : whole.replace(/\B(?=(\d{3})+$)/g, '\u202f');
  return minus((step < 0 ? '-' : '') + grouped + (fraction === undefined ? '' : `.${fraction}`));
}

const SIZES = ['bytes', 'kB', 'MB', 'GB', 'TB', 'PB'];

/** Text for bytes, in powers of 1000. */
export function formatSize(bytes: number): string {
  const power = bytes > 0 ? Math.min(SIZES.length - 1, Math.floor(Math.log10(bytes) / 3 + 1e-9)) : 0;
  const size = bytes / 1000 ** power;
  return `${power === 0 ? size : size.toFixed(size < 99.95 ? 1 : 0)} ${SIZES[power] ?? ''}`;
}

/** Text for how long something will take: `40 s`, `4 min`, `2 h 5 min`. */
export function formatTime(seconds: number): string {
  if (seconds < 59.5) {
    return `${Math.max(1, Math.round(seconds))} s`;
  }
  const minutes = Math.round(seconds / 60);
  const rest = minutes % 60;
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h${rest ? ` ${rest} min` : ''}`;
}

/** Labels for the ticks of an axis, with just the digits that tell neighbours apart. */
export function formatTicks(ticks: readonly number[]): string[] {
  const spacing = Math.abs((ticks[1] ?? 0) - (ticks[0] ?? 0));
  const largest = Math.max(0, ...ticks.map(Math.abs));
  if (largest !== 0 && (largest < 1e-3 || largest >= 1e6)) {
    const digits = spacing > 0 ? Math.max(0, Math.floor(Math.log10(largest)) - Math.floor(Math.log10(spacing))) : 1;
    return ticks.map(tick => (tick === 0 ? '0' : minus(tick.toExponential(Math.min(digits, 6)).replace('e+', 'e'))));
  }
  const digits = spacing > 0 ? Math.max(0, -Math.floor(Math.log10(spacing) + 1e-9)) : 3;
  return ticks.map(tick => minus(tick.toFixed(Math.min(digits, 12))));
}

function minus(text: string): string {
  return text.replace(/^-/, '−');
}

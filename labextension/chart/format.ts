// How numbers are written wherever a person reads them; mlnb/render/format.py and mlnb/units.py write them the same.
// Both are tested against tests/render/formats.json.

/** A metric's value with four significant digits: `0.1235`, `643000`, `1.23e-5`, `NaN`, `∞`. */
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

/** A step or another count, with thin spaces between thousands: `25 142`. */
export function formatStep(step: number): string {
  const [whole = '', fraction] = String(Math.abs(step)).split('.');
  const grouped = whole.includes('e') ? whole : whole.replace(/\B(?=(\d{3})+$)/g, '\u202f');
  return minus((step < 0 ? '-' : '') + grouped + (fraction === undefined ? '' : `.${fraction}`));
}

/** Seconds that one step takes, with three significant digits: `12.3 ms`, `1.11 s`. */
export function formatStepTime(seconds: number): string {
  if (!Number.isFinite(seconds)) {
    return formatValue(seconds);
  }
  if (seconds >= 59.5) {
    return formatTime(seconds);
  }
  const [factor, unit] = seconds >= 0.9995 ? [1, 's'] : seconds >= 0.0009995 ? [1e3, 'ms'] : [1e6, 'µs'];
  const digits = (seconds * factor).toPrecision(3);
  return `${digits.includes('e') ? String(Number(digits)) : digits} ${unit}`;
}

/** How many a second: `3.4`, `12 345`. */
export function formatRate(count: number): string {
  return count >= 99.95 ? formatStep(Math.floor(count + 0.5)) : count.toFixed(1);
}

/** Bytes, in powers of 1000: `1.5 GB`. */
export function formatSize(bytes: number): string {
  let count = bytes;
  for (const unit of ['B', 'kB', 'MB', 'GB']) {
    if (count < 999.5) {
      return `${count.toFixed(unit === 'B' || count >= 99.95 ? 0 : 1)} ${unit}`;
    }
    count /= 1000;
  }
  return `${count.toFixed(1)} TB`;
}

/** A duration: `1 h 30 min`, `12 s`, `0.4 s`. */
export function formatTime(seconds: number): string {
  if (seconds < 59.5) {
    return `${seconds.toFixed(seconds < 9.95 ? 1 : 0)} s`;
  }
  const all = Math.floor(seconds + 0.5);
  const minutes = Math.floor(all / 60);
  if (minutes < 60) {
    return minutes < 10 && all % 60 > 0 ? `${minutes} min ${all % 60} s` : `${minutes} min`;
  }
  return hoursAndMinutes(minutes);
}

/** How long something will take, no finer than such an estimate is: `40 s`, `4 min`, `2 h 5 min`. */
export function formatTimeLeft(seconds: number): string {
  if (seconds < 59.5) {
    return `${Math.max(1, Math.floor(seconds + 0.5))} s`;
  }
  const minutes = Math.floor(seconds / 60 + 0.5);
  return minutes < 60 ? `${minutes} min` : hoursAndMinutes(minutes);
}

function hoursAndMinutes(minutes: number): string {
  const rest = minutes % 60;
  return `${Math.floor(minutes / 60)} h${rest > 0 ? ` ${rest} min` : ''}`;
}

/** Cores in use: `3.4 cores`. */
export function formatCores(count: number): string {
  return `${count.toFixed(1)} cores`;
}

/** A utilisation in percent: `87 %`. */
export function formatPercent(percent: number): string {
  return `${percent.toFixed(0)} %`;
}

/** A power draw: `231 W`. */
export function formatPower(watts: number): string {
  return `${watts.toFixed(0)} W`;
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

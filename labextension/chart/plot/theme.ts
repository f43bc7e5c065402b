/** Colours of the canvas; the style sheet derives them from the front end's own. */
export interface Theme {
  ink: string;
  muted: string;
  grid: string;
  /** Of the curves, in their order. */
  lines: string[];
  alarm: string;
  font: string;
}

/** The colours of curves, as the style sheet names them. */
export const LINES = ['line', 'line-2', 'line-3', 'line-4', 'line-5'];

export function readTheme(element: Element): Theme {
  const style = getComputedStyle(element);
  const colour = (name: string): string => style.getPropertyValue(`--mlnb-${name}`).trim();
  return {
    ink: colour('ink'),
    muted: colour('muted'),
    grid: colour('grid'),
    lines: LINES.map(colour),
    alarm: colour('alarm'),
    font: `11px ${style.fontFamily}`
  };
}

/** Calls back when the front end or the system turns light or dark; returns a function that ends this. */
export function onThemeChange(callback: () => void): () => void {
  const observer = new MutationObserver(callback);
  const attributes = ['class', 'style', 'theme', 'data-theme', 'data-jp-theme-name', 'data-jp-theme-light'];
  for (const element of [document.documentElement, document.body]) {
    observer.observe(element, { attributes: true, attributeFilter: attributes });
  }
  const preference = matchMedia('(prefers-color-scheme: dark)');
  preference.addEventListener('change', callback);
  return () => {
    observer.disconnect();
    preference.removeEventListener('change', callback);
  };
}

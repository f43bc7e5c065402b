import { coloured } from './ansi';

/** Something that a run displayed: its representations by MIME type. */
export type Display = Readonly<Record<string, unknown>>;

/** Makes safe HTML; a front end that can't has none, and shows other representations. */
export interface Rich {
  html(source: string): string;
  /** Undefined where Markdown is shown as it is written. */
  markdown: ((source: string) => Promise<string>) | undefined;
}

const PICTURES = ['image/svg+xml', 'image/png', 'image/jpeg'];

/** The element that shows a display, by the richest representation that is possible here. */
export function displayElement(display: Display, number: number, rich: Rich | undefined): HTMLElement {
  const html = textOf(display, 'text/html');
  if (html !== undefined && rich !== undefined) {
    return htmlElement(rich.html(html));
  }
  for (const mime of PICTURES) {
    const content = textOf(display, mime);
    if (content !== undefined) {
      return picture(mime, content, number);
    }
  }
  const markdown = textOf(display, 'text/markdown');
  if (markdown !== undefined) {
    const element = preformatted(markdown);
    void rich?.markdown?.(markdown).then(source => {
      element.replaceWith(htmlElement(source));
    });
    return element;
  }
  const json = display['application/json'];
  const text = textOf(display, 'text/latex') ?? (json === undefined ? undefined : JSON.stringify(json, null, 1));
  return preformatted(text ?? textOf(display, 'text/plain') ?? '');
}

/** Displays from JSON of any origin; older notebooks have only pictures, as base64 PNG. */
export function parseDisplays(displays: unknown, figures: unknown): Display[] {
  if (Array.isArray(displays)) {
    return displays.filter((item): item is Display => typeof item === 'object' && item !== null);
  }
  const pictures: unknown[] = Array.isArray(figures) ? figures : [];
  return pictures.map(png => ({ 'image/png': png }));
}

function textOf(display: Display, mime: string): string | undefined {
  const content = display[mime];
  if (Array.isArray(content)) {
    return content.join(''); // as notebooks save text of several lines
  }
  return typeof content === 'string' ? content : undefined;
}

function htmlElement(source: string): HTMLElement {
  const element = document.createElement('div');
  element.className = 'mlnb-html jp-RenderedHTMLCommon';
  element.innerHTML = source;
  return element;
}

function preformatted(text: string): HTMLElement {
  const element = document.createElement('pre');
  element.replaceChildren(...coloured(text));
  return element;
}

function picture(mime: string, content: string, number: number): HTMLElement {
  const image = document.createElement('img');
  // A picture in an element of its own runs no script, in SVG neither.
  const encoded = mime === 'image/svg+xml' ? encodeURIComponent(content) : `;base64,${content.replace(/\s/g, '')}`;
  image.src = mime === 'image/svg+xml' ? `data:${mime},${encoded}` : `data:${mime}${encoded}`;
  image.alt = `figure ${number} of the run`;
  return image;
}

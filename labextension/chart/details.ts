import { add } from './dom';
import type { Run } from './run';

/** The traceback of a run that failed; it scrolls, and shows its end first, where the exception is. */
export class Traceback {
  private readonly element: HTMLElement;

  constructor(parent: HTMLElement) {
    this.element = add(parent, 'pre', 'mlnb-error');
    this.element.tabIndex = 0;
    this.element.setAttribute('aria-label', 'traceback');
    this.element.hidden = true;
  }

  show(run: Run): void {
    setText(this.element, run.error);
    this.element.scrollTop = this.element.scrollHeight;
  }
}

/** Below the curves: notes, figures that the run showed, and the end of what it printed. */
export class Details {
  private readonly notes: HTMLElement;
  private readonly figures: HTMLElement;
  private readonly output: HTMLElement;

  constructor(parent: HTMLElement) {
    this.notes = add(parent, 'ul', 'mlnb-notes');
    this.figures = add(parent, 'div', 'mlnb-figures');
    this.output = add(parent, 'pre', 'mlnb-log');
    this.output.tabIndex = 0; // so that the keyboard can scroll it
    this.output.setAttribute('aria-label', 'the end of what the run printed');
    for (const part of [this.notes, this.figures, this.output]) {
      part.hidden = true;
    }
  }

  show(run: Run): void {
    this.notes.hidden = run.notes.length === 0;
    this.notes.replaceChildren(...run.notes.map(listItem));
    if (this.figures.childElementCount !== run.figures.length) {
      this.figures.hidden = run.figures.length === 0;
      this.figures.replaceChildren(...run.figures.map(picture));
    }
    const atEnd = this.output.scrollTop + this.output.clientHeight >= this.output.scrollHeight - 4;
    setText(this.output, run.output);
    if (atEnd) {
      this.output.scrollTop = this.output.scrollHeight; // follow the output, unless the user has scrolled up to read
    }
  }
}

function setText(target: HTMLElement, text: string): void {
  target.hidden = text === '';
  if (target.textContent !== text) {
    target.textContent = text;
  }
}

function listItem(text: string): HTMLLIElement {
  const item = document.createElement('li');
  item.textContent = text;
  return item;
}

function picture(png: string, index: number): HTMLImageElement {
  const image = document.createElement('img');
  image.src = `data:image/png;base64,${png}`;
  image.alt = `figure ${index + 1} of the run`;
  return image;
}

import { coloured } from './ansi';
import { displayElement, type Rich } from './display';
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

/** Below the curves: notes, what the run displayed, and the end of what it printed. */
export class Details {
  private readonly notes: HTMLElement;
  private readonly displays: HTMLElement;
  private readonly output: HTMLElement;
  private displayed = '[]';
  private printed = '';

  constructor(
    parent: HTMLElement,
    private readonly rich: Rich | undefined
  ) {
    this.notes = add(parent, 'ul', 'mlnb-notes');
    this.displays = add(parent, 'div', 'mlnb-displays');
    this.output = add(parent, 'pre', 'mlnb-log');
    this.output.tabIndex = 0; // so that the keyboard can scroll it
    this.output.setAttribute('aria-label', 'the end of what the run printed');
    for (const part of [this.notes, this.displays, this.output]) {
      part.hidden = true;
    }
  }

  show(run: Run): void {
    this.notes.hidden = run.notes.length === 0;
    this.notes.replaceChildren(...run.notes.map(listItem));
    const displayed = JSON.stringify(run.displays);
    if (this.displayed !== displayed) {
      this.displayed = displayed;
      this.displays.hidden = run.displays.length === 0;
      const elements = run.displays.map((display, index) => displayElement(display, index + 1, this.rich));
      this.displays.replaceChildren(...elements);
    }
    const atEnd = this.output.scrollTop + this.output.clientHeight >= this.output.scrollHeight - 4;
    if (this.printed !== run.output) {
      this.printed = run.output;
      this.output.hidden = run.output === '';
      this.output.replaceChildren(...coloured(run.output));
    }
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

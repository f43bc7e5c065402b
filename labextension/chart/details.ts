import { coloured } from './ansi';
import { displayElement, type Rich } from './display';
import { add } from './dom';
import { FoldedText } from './fold';
import type { Run } from './run';

/** The traceback of a run that failed. */
export class Traceback extends FoldedText {
  constructor(parent: HTMLElement) {
    super(parent, 'mlnb-error', 'traceback', text => [document.createTextNode(text)]);
  }
}

/** Below the curves: notes, what the run displayed, and the end of what it printed. */
export class Details {
  private readonly notes: HTMLElement;
  private readonly displays: HTMLElement;
  private readonly output: FoldedText;
  private displayed = '[]';

  constructor(
    parent: HTMLElement,
    private readonly rich: Rich | undefined
  ) {
    this.notes = add(parent, 'ul', 'mlnb-notes');
    this.displays = add(parent, 'div', 'mlnb-displays');
    this.output = new FoldedText(parent, 'mlnb-log', 'the end of what the run printed', coloured);
    this.notes.hidden = this.displays.hidden = true;
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
    this.output.show(run.output);
  }

  dispose(): void {
    this.output.dispose();
  }
}

function listItem(text: string): HTMLLIElement {
  const item = document.createElement('li');
  item.textContent = text;
  return item;
}

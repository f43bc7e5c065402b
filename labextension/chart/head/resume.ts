import { add } from '../dom';
import type { Run } from '../run';

/** Makes the cell continue a run; undefined where the cell can't be changed from here. */
export type ResumeInCell = (run: string) => void;

/** How to go on with a run that has ended before its end, if it has a checkpoint. */
export class Resume {
  private readonly element: HTMLElement;
  private readonly command: HTMLElement;
  private readonly button: HTMLButtonElement;
  private run = '';

  /** `find` is asked each time. */
  constructor(
    parent: HTMLElement,
    private readonly find: () => ResumeInCell | undefined
  ) {
    this.element = add(parent, 'p', 'mlnb-resume', 'Go on from its checkpoint: ');
    this.command = add(this.element, 'code', 'mlnb-command');
    this.button = add(this.element, 'button', 'mlnb-button', 'Put into the cell');
    this.button.type = 'button';
    this.button.addEventListener('click', () => {
      this.find()?.(this.run);
      this.button.textContent = 'Done: run the cell';
    });
    this.element.hidden = true;
  }

  show(run: Run): void {
    if (this.run === run.resume) {
      return;
    }
    this.run = run.resume;
    this.element.hidden = run.resume === '';
    this.command.textContent = `%%train --resume ${run.resume}`;
    this.button.textContent = 'Put into the cell';
    this.offer();
  }

  /** Shows the button if the view is in a cell that can be changed; also called when the view has come there. */
  offer(): void {
    this.button.hidden = this.run === '' || this.find() === undefined;
  }
}

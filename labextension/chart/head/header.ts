import { add } from '../dom';
import { formatTimeLeft } from '../format';
import { isActive, isFresh, isWarned, type Run } from '../run';
import { StopButton, type Stop } from './stopButton';

/** The line above the curve: name, state, its reason, and a Stop button if the run can be stopped. */
export class Header {
  private readonly name: HTMLElement;
  private readonly state: HTMLElement;
  private readonly warning: HTMLElement;
  private readonly text: HTMLElement;
  private readonly button: StopButton;
  private run: Run | undefined;
  private isLive = false;
  private note = '';
  private stop: Stop | undefined;

  constructor(parent: HTMLElement) {
    const element = add(parent, 'header', 'mlnb-head');
    this.name = add(element, 'strong', 'mlnb-name');
    this.state = add(element, 'span', 'mlnb-state');
    this.state.setAttribute('role', 'status');
    this.warning = add(element, 'span', 'mlnb-warning');
    this.text = add(element, 'span', 'mlnb-text');
    this.button = new StopButton(element, reason => {
      this.setLive(this.isLive, `could not be stopped: ${reason}`);
    });
  }

  setLive(live: boolean, note: string): void {
    this.isLive = live;
    this.note = note;
    this.update();
  }

  setStop(stop: Stop | undefined): void {
    this.stop = stop;
    this.update();
  }

  show(run: Run): void {
    this.run = run;
    if (!isActive(run.state)) {
      this.button.reset();
    }
    this.update();
  }

  dispose(): void {
    this.button.dispose();
  }

  private update(): void {
    const run = this.run;
    if (run === undefined) {
      return;
    }
    this.name.textContent = run.name || run.id;
    this.name.title = run.id;
    // Screen readers would announce the same text again if it were assigned again.
    if (this.state.dataset['state'] !== run.state) {
      this.state.dataset['state'] = run.state;
      this.state.textContent = run.state;
    }
    // A saved view of an active run may be out of date, and has to say so.
    const isLive = this.isLive || (this.note === '' && isFresh(run));
    const note = !isLive && isActive(run.state) ? this.note || 'when this was saved' : isLive ? this.note : '';
    const secondsLeft = (run.ends ?? 0) - Date.now() / 1000;
    const timeLeft = isLive && isActive(run.state) && secondsLeft > 0 ? `about ${formatTimeLeft(secondsLeft)} left` : '';
    this.state.classList.toggle('mlnb-live', isLive);
    const warned = isWarned(run);
    this.state.classList.toggle('mlnb-warned', warned);
    this.warning.hidden = !warned;
    this.warning.textContent = warned ? run.reason : '';
    const text = [note, warned ? '' : run.reason, run.line, timeLeft].filter(part => part !== '').join(' · ');
    if (this.text.textContent !== text) {
      this.text.textContent = text;
    }
    this.button.show(isActive(run.state) ? this.stop : undefined, run.name || run.id);
  }
}

import { add } from './dom';
import { formatTimeLeft } from './format';
import { isActive, isFresh, type Run } from './run';

/** Stops the run. A promise is fulfilled when it has ended, and rejected with the reason if it could not be stopped. */
export type Stop = () => Promise<void> | undefined;

// A request without an answer may be lost with its kernel, so the button can be pressed again after this time.
const RETRY_MS = 15_000;

/** The line above the curve: name, state, its reason, and a Stop button if the run can be stopped. */
export class Header {
  private readonly name: HTMLElement;
  private readonly state: HTMLElement;
  private readonly text: HTMLElement;
  private readonly button: HTMLButtonElement;
  private run: Run | undefined;
  private isLive = false;
  private note = '';
  private stop: Stop | undefined;
  private retry: ReturnType<typeof setTimeout> | undefined;

  constructor(parent: HTMLElement) {
    const element = add(parent, 'header', 'mlnb-head');
    this.name = add(element, 'strong', 'mlnb-name');
    this.state = add(element, 'span', 'mlnb-state');
    this.state.setAttribute('role', 'status');
    this.text = add(element, 'span', 'mlnb-text');
    this.button = add(element, 'button', 'mlnb-button mlnb-stop', 'Stop');
    this.button.type = 'button';
    this.button.hidden = true;
    this.button.addEventListener('click', () => {
      this.onStop();
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
      this.setStopping(false);
    }
    this.update();
  }

  dispose(): void {
    clearTimeout(this.retry);
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
    const text = [note, run.reason, run.line, timeLeft].filter(part => part !== '').join(' · ');
    if (this.text.textContent !== text) {
      this.text.textContent = text;
    }
    this.button.hidden = this.stop === undefined || !isActive(run.state);
    this.button.setAttribute('aria-label', `Stop the run ${run.name || run.id}`);
  }

  private onStop(): void {
    this.setStopping(true);
    const request = this.stop?.();
    if (request === undefined) {
      this.retry = setTimeout(() => {
        this.setStopping(false);
      }, RETRY_MS);
      return;
    }
    request.catch((error: unknown) => {
      this.setStopping(false);
      this.setLive(this.isLive, `could not be stopped: ${error instanceof Error ? error.message : String(error)}`);
    });
  }

  private setStopping(stopping: boolean): void {
    clearTimeout(this.retry);
    this.button.disabled = stopping;
    this.button.textContent = stopping ? 'Stopping…' : 'Stop';
  }
}

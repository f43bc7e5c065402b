import { decodeFrames, type Points } from '../chart/frame';
import { parseRun, type Run } from '../chart/run';
import { connect, known } from './server';

const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 30_000;

export interface RunStreamEvents {
  head: (run: Run, names: ReadonlySet<string>) => void;
  /** False when points before these are missing. */
  points: (points: Points) => boolean;
  /** The run has ended, and all of it was told. */
  end: () => void;
  /** The connection was lost; it will be tried again. */
  lost: () => void;
  /** The server doesn't know the run any more. */
  gone: () => void;
}

/** A run as the server streams it, connected again whenever the connection is lost. */
export class RunStream {
  private socket: WebSocket | undefined;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private pause = FIRST_PAUSE_MS;
  private over = false;

  constructor(
    readonly id: string,
    private readonly events: RunStreamEvents
  ) {
    this.open();
  }

  dispose(): void {
    this.over = true;
    clearTimeout(this.timer);
    this.socket?.close();
  }

  private open(): void {
    const socket = connect(this.id);
    this.socket = socket;
    socket.addEventListener('message', ({ data }: MessageEvent<string | ArrayBuffer>) => {
      if (this.over || socket !== this.socket) {
        return;
      }
      try {
        this.take(data);
      } catch {
        socket.close(); // and so get all of it anew
      }
    });
    socket.addEventListener('close', () => {
      if (!this.over && socket === this.socket) {
        this.events.lost();
        this.tryLater();
      }
    });
  }

  private take(data: string | ArrayBuffer): void {
    this.pause = FIRST_PAUSE_MS;
    if (typeof data !== 'string') {
      if (!decodeFrames(data).every(this.events.points)) {
        throw new Error('points are missing');
      }
      return;
    }
    const said = JSON.parse(data) as { type?: unknown; run?: unknown; names?: unknown };
    if (said.type === 'head') {
      const names = Array.isArray(said.names) ? said.names.filter(name => typeof name === 'string') : [];
      this.events.head(parseRun(said.run), new Set(names));
    } else if (said.type === 'end') {
      this.over = true;
      this.events.end();
    }
  }

  private tryLater(): void {
    this.timer = setTimeout(() => {
      void this.again();
    }, this.pause);
    this.pause = Math.min(LONGEST_PAUSE_MS, 2 * this.pause);
  }

  private async again(): Promise<void> {
    try {
      const found = await known(this.id);
      if (this.over) {
        return;
      }
      if (found === undefined) {
        this.over = true;
        this.events.gone();
      } else {
        this.open();
      }
    } catch {
      if (!this.over) {
        this.tryLater();
      }
    }
  }
}

import { decodeFrames, type Points } from '../chart/frame';
import { parseRun, type Run } from '../chart/run';
import { connect, fetchRun } from './server';

const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 30_000;

export interface RunStreamEvents {
  /** The summary of the run, and the names of its metrics. */
  summary: (run: Run, names: ReadonlySet<string>) => void;
  /** Returns false if points before these are missing. */
  points: (points: Points) => boolean;
  /** The run has ended, and all of it was sent. */
  end: () => void;
  /** The connection was lost; the stream will connect again. */
  lost: () => void;
  /** The server no longer has the run. */
  gone: () => void;
}

/** A run as the server streams it, connected again whenever the connection is lost. */
export class RunStream {
  private socket: WebSocket | undefined;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private pause = FIRST_PAUSE_MS;
  private closed = false;

  constructor(
    readonly id: string,
    private readonly events: RunStreamEvents
  ) {
    this.open();
  }

  dispose(): void {
    this.closed = true;
    clearTimeout(this.timer);
    this.socket?.close();
  }

  private open(): void {
    const socket = connect(this.id);
    this.socket = socket;
    socket.addEventListener('message', ({ data }: MessageEvent<string | ArrayBuffer>) => {
      if (this.closed || socket !== this.socket) {
        return;
      }
      try {
        this.receive(data);
      } catch {
        socket.close(); // the server sends everything again on a new connection
      }
    });
    socket.addEventListener('close', () => {
      if (!this.closed && socket === this.socket) {
        this.events.lost();
        this.retryLater();
      }
    });
  }

  private receive(data: string | ArrayBuffer): void {
    this.pause = FIRST_PAUSE_MS;
    if (typeof data !== 'string') {
      if (!decodeFrames(data).every(this.events.points)) {
        throw new Error('points are missing');
      }
      return;
    }
    const message = JSON.parse(data) as { type?: unknown; run?: unknown; names?: unknown };
    if (message.type === 'summary') {
      const names = Array.isArray(message.names) ? message.names.filter(name => typeof name === 'string') : [];
      this.events.summary(parseRun(message.run), new Set(names));
    } else if (message.type === 'end') {
      this.closed = true;
      this.events.end();
    }
  }

  private retryLater(): void {
    this.timer = setTimeout(() => {
      void this.reconnect();
    }, this.pause);
    this.pause = Math.min(LONGEST_PAUSE_MS, 2 * this.pause);
  }

  private async reconnect(): Promise<void> {
    try {
      const listed = await fetchRun(this.id);
      if (this.closed) {
        return;
      }
      if (listed === undefined) {
        this.closed = true;
        this.events.gone();
      } else {
        this.open();
      }
    } catch {
      if (!this.closed) {
        this.retryLater();
      }
    }
  }
}

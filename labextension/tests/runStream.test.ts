import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { RunStream, type RunStreamEvents } from '../src/runStream';

class Socket extends EventTarget {
  close(): void {
    this.dispatchEvent(new Event('close'));
  }
  send(data: unknown): void {
    this.dispatchEvent(Object.assign(new Event('message'), { data }));
  }
}

const server = vi.hoisted(() => ({ connect: vi.fn(), fetchRun: vi.fn() }));
vi.mock('../src/server', () => server);

const summary = JSON.stringify({ type: 'summary', run: { id: 'r1', state: 'running' }, names: ['loss'] });
const frame = (offset: number): ArrayBuffer => {
  const header = `${JSON.stringify({ type: 'points', metric: 'loss', offset, count: 0 })}\n`;
  return new Uint8Array(new TextEncoder().encode(header)).buffer;
};

describe('RunStream', () => {
  let sockets: Socket[];
  let events: { [name in keyof RunStreamEvents]: ReturnType<typeof vi.fn> };
  let live: RunStream;

  beforeEach(() => {
    vi.useFakeTimers();
    sockets = [];
    server.connect.mockImplementation(() => {
      const socket = new Socket();
      sockets.push(socket);
      return socket;
    });
    server.fetchRun.mockReset();
    server.fetchRun.mockResolvedValue({ id: 'r1', state: 'running' });
    events = { summary: vi.fn(), points: vi.fn(() => true), end: vi.fn(), lost: vi.fn(), gone: vi.fn() };
    live = new RunStream('r1', events);
  });

  afterEach(() => {
    live.dispose();
    vi.useRealTimers();
  });

  it('passes on what it receives, and does not connect again after the end', async () => {
    sockets[0]?.send(summary);
    sockets[0]?.send(frame(0));
    expect(events.summary.mock.calls[0]?.[1]).toEqual(new Set(['loss']));
    expect(events.points).toHaveBeenCalledTimes(1);
    sockets[0]?.send(JSON.stringify({ type: 'end' }));
    sockets[0]?.close();
    await vi.advanceTimersByTimeAsync(120_000);
    expect([events.end.mock.calls.length, events.lost.mock.calls.length, sockets.length]).toEqual([1, 0, 1]);
  });

  it('connects again after longer and longer pauses, which are short again after a connection', async () => {
    server.fetchRun.mockRejectedValue(new Error('no server'));
    sockets[0]?.close();
    expect(events.lost).toHaveBeenCalledTimes(1);
    await vi.advanceTimersByTimeAsync(7_500);
    expect(server.fetchRun).toHaveBeenCalledTimes(3); // after 1, 2 and 4 seconds
    server.fetchRun.mockResolvedValue({ id: 'r1', state: 'running' });
    await vi.advanceTimersByTimeAsync(8_000);
    expect(sockets).toHaveLength(2);
    sockets[1]?.send(summary);
    sockets[1]?.close();
    await vi.advanceTimersByTimeAsync(1_100);
    expect(sockets).toHaveLength(3);
  });

  it('connects again when points are missing', async () => {
    events.points.mockReturnValueOnce(false);
    sockets[0]?.send(frame(7));
    await vi.advanceTimersByTimeAsync(1_100);
    expect(sockets).toHaveLength(2);
  });

  it('gives up when the server no longer has the run, and when it is disposed of', async () => {
    server.fetchRun.mockResolvedValue(undefined);
    sockets[0]?.close();
    await vi.advanceTimersByTimeAsync(60_000);
    expect([events.gone.mock.calls.length, sockets.length]).toEqual([1, 1]);
    live = new RunStream('r1', events);
    live.dispose();
    sockets[1]?.close();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(sockets).toHaveLength(2);
  });
});

/** New points of one metric, as widget and server send them: a header and one buffer of float64. */
export interface PointsMessage {
  type: 'points';
  metric: string;
  offset: number;
  count: number;
  /** How many points were logged in all; left out if all were sent. */
  total?: number;
}

export interface Points {
  metric: string;
  offset: number;
  steps: Float64Array;
  values: Float64Array;
  total: number;
}

export function isPointsMessage(message: unknown): message is PointsMessage {
  if (typeof message !== 'object' || message === null) {
    return false;
  }
  const { type, metric, offset, count, total = 0 } = message as Record<string, unknown>;
  return type === 'points' && typeof metric === 'string' && isCount(offset) && isCount(count) && isCount(total);
}

/** Steps and values of a frame; undefined when the buffer is not what the header says. */
export function decodePoints(message: PointsMessage, buffer: ArrayBufferView | undefined): Points | undefined {
  const bytes = Float64Array.BYTES_PER_ELEMENT * 2 * message.count;
  if (buffer?.byteLength !== bytes) {
    return undefined;
  }
  // Copied, because a buffer of a message begins at any byte and a Float64Array only at multiples of eight.
  const copy = new Uint8Array(bytes);
  copy.set(new Uint8Array(buffer.buffer, buffer.byteOffset, bytes));
  const numbers = new Float64Array(copy.buffer);
  return {
    metric: message.metric,
    offset: message.offset,
    steps: numbers.subarray(0, message.count),
    values: numbers.subarray(message.count),
    total: message.total ?? 0
  };
}

/** Frames one after another, as the server sends them: each header is a line of JSON. Throws if they can't be decoded. */
export function decodeFrames(data: ArrayBuffer): Points[] {
  const bytes = new Uint8Array(data);
  const frames: Points[] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = bytes.indexOf(10, at);
    const header: unknown = JSON.parse(new TextDecoder().decode(bytes.subarray(at, end < 0 ? at : end)));
    if (!isPointsMessage(header)) {
      throw new Error('The server sent something that is not a frame of points.');
    }
    at = end + 1 + 2 * Float64Array.BYTES_PER_ELEMENT * header.count;
    const points = decodePoints(header, bytes.subarray(end + 1, at));
    if (points === undefined) {
      throw new Error('The server sent a frame of points that is cut off.');
    }
    frames.push(points);
  }
  return frames;
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0;
}

/** New points of one metric, as the Python widget sends them: a header and one buffer of float64. */
export interface PointsMessage {
  type: 'points';
  metric: string;
  offset: number;
  count: number;
}

export interface Points {
  metric: string;
  offset: number;
  steps: Float64Array;
  values: Float64Array;
}

export function isPointsMessage(message: unknown): message is PointsMessage {
  if (typeof message !== 'object' || message === null) {
    return false;
  }
  const { type, metric, offset, count } = message as Record<string, unknown>;
  return type === 'points' && typeof metric === 'string' && isCount(offset) && isCount(count);
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
    values: numbers.subarray(message.count)
  };
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0;
}

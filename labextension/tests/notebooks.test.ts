import { afterEach, describe, expect, it } from 'vitest';
import { MIME_TYPE } from '../chart/bundle';
import { isStale, replaceOutputs, useApplication, withResume, type Application } from '../src/notebooks';

interface Output {
  output_type: string;
  data?: Record<string, unknown>;
}

function shown(state: string, id = 'a'): Output {
  return { output_type: 'display_data', data: { [MIME_TYPE]: { id, state }, 'text/plain': state } };
}

function notebook(outputs: Output[], readOnly = false): unknown {
  const area = {
    get length(): number {
      return outputs.length;
    },
    get: (index: number) => ({ toJSON: () => outputs[index] }),
    set: (index: number, output: Output) => {
      outputs[index] = output;
    }
  };
  return { content: { widgets: [] }, context: { model: { readOnly, cells: [{}, { outputs: area }] } } };
}

function open(...widgets: unknown[]): void {
  const app: Application = { shell: { widgets: () => widgets } };
  useApplication(app);
}

afterEach(() => {
  useApplication(undefined);
});

describe('the end of a run in open notebooks', () => {
  const end = { [MIME_TYPE]: { id: 'a', state: 'succeeded' }, 'image/png': 'x' };

  it('replaces what shows the run in another state, and nothing else', () => {
    const stream = { output_type: 'stream' };
    const [first, second] = [
      [stream, shown('running'), shown('running', 'b')],
      [shown('succeeded'), shown('cancelled')]
    ];
    open({}, notebook(first), { content: { widgets: 3 } }, notebook(second));
    expect(isStale('a', 'succeeded')).toBe(true);
    replaceOutputs('a', end);
    expect(first).toEqual([stream, { output_type: 'display_data', data: end }, shown('running', 'b')]);
    expect(second).toEqual([shown('succeeded'), { output_type: 'display_data', data: end }]);
    expect(isStale('a', 'succeeded')).toBe(false);
  });

  it('leaves a notebook alone that can only be read', () => {
    const outputs = [shown('running')];
    open(notebook(outputs, true));
    replaceOutputs('a', end);
    expect(outputs).toEqual([shown('running')]);
  });

  it('does nothing where there are no notebooks', () => {
    expect(isStale('a', 'succeeded')).toBe(false);
  });
});

describe('a first line that continues a run', () => {
  it.each([
    ['%%train\nx = 1', '%%train --resume r\nx = 1'],
    ['%%train --gpus 2 --name "my run" --wait\nx', '%%train --gpus 2 --wait --resume r\nx'],
    ['%%train --resume=old --time 1h\nx', '%%train --time 1h --resume r\nx'],
    ['# %%train as a comment\n  %%train --name a\nx', '# %%train as a comment\n  %%train --resume r\nx'],
    ['x = 1', 'x = 1']
  ])('%s', (before, after) => {
    expect(withResume(before, 'r')).toBe(after);
  });
});

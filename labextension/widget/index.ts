import type { Render } from '@anywidget/types';
import 'uplot/dist/uPlot.min.css';
import '../chart/style.css';
import { decodePoints, isPointsMessage } from '../chart/frame';
import { parseRun } from '../chart/run';
import { RunView } from '../chart/view';
import { Resync } from './resync';

interface Traits {
  run: unknown;
}

/**
 * One view of a run while its kernel lives. The view requests the complete history when it appears ("hello") and
 * after a message was lost ("resync"); otherwise the kernel sends only new points.
 */
const render: Render<Traits> = ({ model, el }) => {
  const view = new RunView(el);
  view.setLive(true);
  view.setStop(() => {
    model.send({ type: 'stop' });
    return undefined;
  });
  const resync = new Resync(() => {
    model.send({ type: 'resync' });
  });
  const showRun = (): void => {
    view.showRun(parseRun(model.get('run')));
  };
  const onMessage = (message: unknown, buffers: DataView[]): void => {
    if (!isPointsMessage(message)) {
      return;
    }
    const points = decodePoints(message, buffers[0]);
    if (points === undefined || !view.putPoints(points)) {
      resync.request();
    } else if (points.offset === 0) {
      resync.done();
    }
  };

  model.on('change:run', showRun);
  model.on('msg:custom', onMessage);
  showRun();
  model.send({ type: 'hello' });
  return () => {
    model.off('change:run', showRun);
    model.off('msg:custom', onMessage);
    resync.done();
    view.dispose();
  };
};

export default { render };

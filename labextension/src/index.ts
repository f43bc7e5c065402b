import type { IRenderMime } from '@jupyterlab/rendermime-interfaces';
import { MIME_TYPE } from '../chart/bundle';
import { RunRenderer } from './renderer';

const extension: IRenderMime.IExtension = {
  id: 'mlnb-labextension:run',
  description: 'Shows the state and the curves of an mlnb run, live from the server, or from the notebook alone.',
  rendererFactory: {
    // Text goes in as text and numbers as numbers, so a notebook need not be trusted for this.
    safe: true,
    mimeTypes: [MIME_TYPE],
    createRenderer: () => new RunRenderer()
  },
  // Before widgets (-10): an output may hold one for front ends that have no such renderer.
  rank: -20,
  dataType: 'json'
};

export default extension;

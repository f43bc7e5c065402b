import type { IRenderMime } from '@jupyterlab/rendermime-interfaces';
import { MIME_TYPE } from '../chart/bundle';
import { RunRenderer } from './renderer';

const extension: IRenderMime.IExtension = {
  id: 'mlnb-labextension:run',
  description: 'Shows the state and the curves of an mlnb run, from the notebook alone.',
  rendererFactory: {
    // Text goes in as text and numbers as numbers, so a notebook need not be trusted for this.
    safe: true,
    mimeTypes: [MIME_TYPE],
    createRenderer: () => new RunRenderer()
  },
  // Before text/html and pictures (50 and more), after live widgets (-10).
  rank: 0,
  dataType: 'json'
};

export default extension;

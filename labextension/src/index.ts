import type { IRenderMime } from '@jupyterlab/rendermime-interfaces';
import { MIME_TYPE } from '../chart/bundle';
import { RunRenderer } from './renderer';

const extension: IRenderMime.IExtension = {
  id: 'mlnb-labextension:run',
  description: 'Shows the state and the curves of an mlnb run, live from the server, or from the notebook alone.',
  rendererFactory: {
    // HTML of the data is inserted only as JupyterLab's sanitizer leaves it, so the notebook need not be trusted.
    safe: true,
    mimeTypes: [MIME_TYPE],
    createRenderer: options => new RunRenderer(options)
  },
  // Before widgets (-10): an output may also contain one, for front ends without this renderer.
  rank: -20,
  dataType: 'json'
};

export default extension;

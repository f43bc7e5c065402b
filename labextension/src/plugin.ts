import { useApplication, type Application } from './notebooks';

/** Gives the renderer the notebooks in which it keeps the end of a run. */
const plugin = {
  id: 'mlnb-labextension:notebooks',
  description: 'Keeps in the notebook how a run has ended, if its kernel no longer does.',
  autoStart: true,
  activate: (app: Application): void => {
    useApplication(app);
  }
};

export default plugin;

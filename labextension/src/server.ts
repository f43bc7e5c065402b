/** A run as the Jupyter server lists it: enough to tell whether the server has more than the output. */
export interface ListedRun {
  id: string;
  state: string;
}

/** Queries of one page within this time are sent in one request. */
const BATCH_MS = 30;
const MAX_IDS = 50;

/** The page's configuration, as the server wrote it into the page. */
const config = ((): Record<string, unknown> => {
  try {
    const text = document.getElementById('jupyter-config-data')?.textContent ?? '{}';
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    return {};
  }
})();

function setting(key: string): string {
  const value = config[key];
  return typeof value === 'string' ? value : '';
}

/** Whether this page's server has our extension. The page says so: asking a server without it would be an error. */
export const isServed = setting('mlnbServer') !== '';

function runsUrl(path: string): URL {
  return new URL(`${setting('baseUrl').replace(/\/?$/, '/')}mlnb/runs${path}`, location.origin);
}

/** Sends a request as JupyterLab does: with the page's token, or with the browser's cookies. */
async function request(path: string, method: 'GET' | 'POST'): Promise<unknown> {
  const headers = new Headers();
  const token = setting('token');
  if (token !== '') {
    headers.set('Authorization', `token ${token}`);
  }
  const xsrf = /(?:^|;\s*)_xsrf=([^;]*)/.exec(document.cookie)?.[1];
  if (xsrf !== undefined) {
    headers.set('X-XSRFToken', xsrf);
  }
  const response = await fetch(runsUrl(path), {
    method,
    headers,
    credentials: 'same-origin',
    cache: 'no-store',
    ...(method === 'POST' ? { body: '{}' } : {})
  });
  const content: unknown = await response.json().catch(() => undefined);
  if (!response.ok) {
    const message = (content as { message?: unknown } | undefined)?.message;
    throw new Error(typeof message === 'string' ? message : `the server answered ${response.status}`);
  }
  return content;
}

interface Query {
  id: string;
  resolve: (run: ListedRun | undefined) => void;
  reject: (error: unknown) => void;
}

let queries: Query[] = [];

/** A run as the server lists it; undefined if it has none with this id. All views of a page share one request. */
export function fetchRun(id: string): Promise<ListedRun | undefined> {
  return new Promise((resolve, reject) => {
    queries.push({ id, resolve, reject });
    if (queries.length === 1) {
      setTimeout(() => {
        const all = queries;
        queries = [];
        for (let i = 0; i < all.length; i += MAX_IDS) {
          void fetchRuns(all.slice(i, i + MAX_IDS));
        }
      }, BATCH_MS);
    }
  });
}

async function fetchRuns(batch: readonly Query[]): Promise<void> {
  try {
    const ids = new Set(batch.map(({ id }) => id));
    const parameters = [...ids].map(id => `id=${encodeURIComponent(id)}`).join('&');
    const runs = (await request(`?${parameters}`, 'GET')) as ListedRun[];
    for (const { id, resolve } of batch) {
      resolve(runs.find(run => run.id === id));
    }
  } catch (error) {
    for (const { reject } of batch) {
      reject(error);
    }
  }
}

/** A run as a complete output: data by MIME type. */
export async function fetchOutput(id: string): Promise<Record<string, unknown>> {
  return (await request(`/${encodeURIComponent(id)}/output`, 'GET')) as Record<string, unknown>;
}

/** Stops a run; fulfilled when it has ended. Needs no kernel. */
export async function stopRun(id: string): Promise<void> {
  await request(`/${encodeURIComponent(id)}/cancel`, 'POST');
}

/** Opens the stream of a run. */
export function connect(id: string): WebSocket {
  const url = runsUrl(`/${encodeURIComponent(id)}/stream`);
  url.protocol = url.protocol.replace('http', 'ws');
  const token = setting('token');
  if (token !== '') {
    url.searchParams.set('token', token);
  }
  const socket = new WebSocket(url);
  socket.binaryType = 'arraybuffer';
  return socket;
}

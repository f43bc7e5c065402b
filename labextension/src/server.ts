/** What the Jupyter server says of a run: enough to know whether there is more than was saved. */
export interface Known {
  id: string;
  state: string;
}

type Ask = (known: Known | undefined) => void;

const GATHER_MS = 30;
const AT_ONCE = 50;

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

/** Whether this page's server has our extension. It is in the page, since asking a server without it is an error. */
export const isServed = setting('mlnbServer') !== '';

function address(path: string): URL {
  return new URL(`${setting('baseUrl').replace(/\/?$/, '/')}mlnb/runs${path}`, location.origin);
}

/** Asks the server as JupyterLab does: with the page's token, or with the browser's cookies. */
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
  const answer = await fetch(address(path), {
    method,
    headers,
    credentials: 'same-origin',
    cache: 'no-store',
    ...(method === 'POST' ? { body: '{}' } : {})
  });
  const said: unknown = await answer.json().catch(() => undefined);
  if (!answer.ok) {
    const message = (said as { message?: unknown } | undefined)?.message;
    throw new Error(typeof message === 'string' ? message : `the server answered ${answer.status}`);
  }
  return said;
}

let waiting: { id: string; ask: Ask; fail: (error: unknown) => void }[] = [];

/** What the server knows of a run; undefined if nothing. All views of a page ask together. */
export function known(id: string): Promise<Known | undefined> {
  return new Promise((ask, fail) => {
    waiting.push({ id, ask, fail });
    if (waiting.length === 1) {
      setTimeout(() => {
        const all = waiting;
        waiting = [];
        for (let i = 0; i < all.length; i += AT_ONCE) {
          void answer(all.slice(i, i + AT_ONCE));
        }
      }, GATHER_MS);
    }
  });
}

async function answer(asked: typeof waiting): Promise<void> {
  try {
    const ids = new Set(asked.map(one => one.id));
    const query = [...ids].map(id => `id=${encodeURIComponent(id)}`).join('&');
    const runs = (await request(`?${query}`, 'GET')) as Known[];
    for (const { id, ask } of asked) {
      ask(runs.find(run => run.id === id));
    }
  } catch (error) {
    for (const { fail } of asked) {
      fail(error);
    }
  }
}

/** Ends a run; fulfilled when it is gone. Needs no kernel. */
export async function stop(id: string): Promise<void> {
  await request(`/${encodeURIComponent(id)}/cancel`, 'POST');
}

/** Opens the stream of a run. */
export function connect(id: string): WebSocket {
  const url = address(`/${encodeURIComponent(id)}/stream`);
  url.protocol = url.protocol.replace('http', 'ws');
  const token = setting('token');
  if (token !== '') {
    url.searchParams.set('token', token);
  }
  const socket = new WebSocket(url);
  socket.binaryType = 'arraybuffer';
  return socket;
}

// A page in which the hooks of the client libraries run, and a record of what went over the wire.
import { JSDOM } from 'jsdom';
import { sleep, until } from './harness.mjs';

const dom = new JSDOM('<!doctype html><title>tests</title>', { url: 'http://localhost/' });
globalThis.window = dom.window;
globalThis.document = dom.window.document;
globalThis.IS_REACT_ACT_ENVIRONMENT = false;
const React = (await import('react')).default;
const { createRoot } = await import('react-dom/client');
const { SWRConfig } = await import('swr');

/**
 * Renders nothing but the hook; `page.hook` is what it returned last. The hooks that keep
 * their state in a cache get one of their own, as after a reload.
 */
export async function mount(useHook) {
  const page = { hook: null, statuses: [] };
  function Probe() {
    page.hook = useHook();
    const { status } = page.hook;
    if (status && page.statuses.at(-1) !== status) page.statuses.push(status);
    return null;
  }
  const root = createRoot(document.body.appendChild(document.createElement('div')));
  const cache = new Map();
  const value = { provider: () => cache };
  root.render(React.createElement(SWRConfig, { value }, React.createElement(Probe)));
  page.leave = () => root.unmount();
  page.settled = async () => {
    await until(() => ['ready', 'error'].includes(page.hook.status), 'the hook to settle', 25_000);
    await sleep(40);
  };
  await until(() => page.hook, 'the hook to mount');
  return page;
}

/** A `fetch` that keeps every exchange and can lose the network in mid-answer. */
export class Recorder {
  exchanges = [];

  fetch = async (url, init = {}) => {
    const exchange = {
      url: String(url),
      method: init.method ?? 'GET',
      body: typeof init.body === 'string' ? JSON.parse(init.body) : undefined,
      text: '',
      ended: false,
    };
    this.exchanges.push(exchange);
    const response = await fetch(url, init);
    exchange.status = response.status;
    exchange.headers = response.headers;
    if (!response.ok || !response.body) return response;
    return new Response(recorded(response.body, exchange), {
      status: response.status,
      headers: response.headers,
    });
  };

  get last() {
    return this.exchanges.at(-1);
  }

  loseNetwork() {
    for (const exchange of this.exchanges) exchange.lose?.(new TypeError('network error'));
  }
}

/** Read to its end even if the client stops at an error: what follows must be right too. */
function recorded(source, exchange) {
  const reader = source.getReader();
  const decoder = new TextDecoder();
  let open = true;
  return new ReadableStream({
    start(controller) {
      const close = action => {
        if (open) action();
        open = false;
      };
      exchange.lose = error => {
        close(() => controller.error(error));
        reader.cancel().catch(() => {});
      };
      exchange.done = (async () => {
        try {
          for (;;) {
            const { done, value } = await reader.read();
            if (done) break;
            exchange.text += decoder.decode(value, { stream: true });
            if (open) controller.enqueue(value);
          }
          exchange.ended = open || exchange.text.endsWith('\n');
          close(() => controller.close());
        } catch (error) {
          close(() => controller.error(error));
        }
      })();
    },
    cancel() {
      open = false;
    },
  });
}

// One version of the AI SDK against one server: how the scenarios mount, look and compare.
import { check, fail, sameValue } from '../harness.mjs';
import { mount, Recorder } from '../page.mjs';
import { checkAnswer } from '../uistream.mjs';

export const textOf = message =>
  (message?.parts ?? []).filter(part => part.type === 'text').map(part => part.text).join('');
export const toolsOf = message => message.parts.filter(part => part.type.startsWith('tool-'));
export const counted = count => Array.from({ length: count }, (_, i) => `w${i} `).join('');

export class Client {
  constructor(base, version, sdk, hooks) {
    Object.assign(this, { base, version, sdk, hooks, api: `${base}/api/chat` });
  }

  /** `ownChat` hands the hook a ready Chat object, which keeps the transport unwrapped. */
  async open({ transport, ownChat = false, ...properties }) {
    const recorder = new Recorder();
    const seen = { errors: [], finishes: [], data: [] };
    const settings = {
      ...properties,
      transport: transport ?? new this.sdk.DefaultChatTransport({ api: this.api, fetch: recorder.fetch }),
      onError: error => seen.errors.push(error),
      onFinish: finish => seen.finishes.push(finish),
      onData: part => seen.data.push(structuredClone(part)),
    };
    const given = ownChat ? { chat: new this.hooks.Chat(settings) } : settings;
    const page = await mount(() => this.hooks.useChat(given));
    return Object.assign(page, seen, {
      recorder,
      say: async text => {
        await page.hook.sendMessage({ text });
        await page.settled();
      },
      answers: () => this.#answers(recorder),
    });
  }

  async #answers(recorder) {
    const answers = [];
    for (const exchange of recorder.exchanges) {
      if (exchange.status !== 200) continue;
      await exchange.done;
      const last = exchange.body?.messages.at(-1);
      const earlierCalls = last?.role === 'assistant' ? toolsOf(last).map(part => part.toolCallId) : [];
      answers.push(checkAnswer(exchange.text, exchange.headers, { cut: !exchange.ended, earlierCalls }));
    }
    return answers;
  }

  path(id, what) {
    return `${this.api}/${encodeURIComponent(id)}/${what}`;
  }

  async history(id) {
    const response = await fetch(this.path(id, 'messages'));
    check(response.status === 200, `GET messages: ${response.status}`);
    const body = await response.json();
    if (!Array.isArray(body.messages)) fail(`GET messages: ${JSON.stringify(body).slice(0, 100)}`);
    return body;
  }

  async stored(id) {
    return (await this.history(id)).messages;
  }

  async sameAsStored(id, page) {
    sameValue(await this.stored(id), page.hook.messages, 'the server holds other messages than the client');
  }

  stop(id, body = '{}') {
    const headers = { 'content-type': 'application/json' };
    return fetch(this.path(id, 'stop'), { method: 'POST', headers, body });
  }

  resume(id) {
    return fetch(this.path(id, 'stream'));
  }
}

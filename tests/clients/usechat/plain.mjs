// The surfaces around chat: plain text streams and completions.
import { check, newId, same, skip, until } from '../harness.mjs';
import { mount, Recorder } from '../page.mjs';
import { checkAnswer } from '../uistream.mjs';
import { textOf } from './client.mjs';

async function complete(client, settings, prompt) {
  const recorder = new Recorder();
  const page = await mount(() => client.hooks.useCompletion({ ...settings, fetch: recorder.fetch }));
  await page.hook.complete(prompt);
  await until(() => !page.hook.isLoading, 'the completion');
  await recorder.last.done;
  return { page, exchange: recorder.last };
}

const plain = exchange =>
  check(/^text\/plain\b/.test(exchange.headers.get('content-type')), 'the answer is not plain text');

export const surfaces = client => ({
  async 'text-stream'() {
    if (!client.sdk.TextStreamChatTransport) skip('this version has no text stream transport');
    const id = newId();
    const recorder = new Recorder();
    const api = `${client.api}?protocol=text`;
    const transport = new client.sdk.TextStreamChatTransport({ api, fetch: recorder.fetch });
    const page = await client.open({ id, transport });
    await page.say('plain wörds 🌊');
    same([page.hook.status, textOf(page.hook.messages[1])], ['ready', 'echo: plain wörds 🌊'], 'answer');
    plain(recorder.last);
    same((await client.stored(id)).map(textOf), ['plain wörds 🌊', 'echo: plain wörds 🌊'], 'stored');
    page.leave();
  },

  async completion() {
    const { page, exchange } = await complete(client, { api: `${client.base}/api/completion` }, 'finish thís');
    same(page.hook.completion, 'echo: finish thís', 'completion');
    same(exchange.body, { prompt: 'finish thís' }, 'request');
    checkAnswer(exchange.text, exchange.headers);
    page.leave();
  },

  async 'completion-error'() {
    const { page } = await complete(client, { api: `${client.base}/api/completion` }, '!error no ink');
    same(page.hook.error?.message, 'no ink', 'error');
    page.leave();
  },

  async 'completion-text'() {
    const api = `${client.base}/api/completion?protocol=text`;
    const { page, exchange } = await complete(client, { api, streamProtocol: 'text' }, 'plain');
    same(page.hook.completion, 'echo: plain', 'completion');
    plain(exchange);
    page.leave();
  },
});

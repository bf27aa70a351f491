// The hook of AI SDK 4, unmodified, and the data stream protocol that it reads.
import * as hooks from 'ai-react-4';
import { checkDataHeaders, checkOrder, readLines } from './datastream.mjs';
import { check, finish, newId, readArguments, run, same, sleep, until } from './harness.mjs';
import { mount, Recorder } from './page.mjs';

const { base, only } = readArguments();
const api = `${base}/api/chat`;
const counted = count => Array.from({ length: count }, (_, i) => `w${i} `).join('');
const invocations = message =>
  message.parts.filter(part => part.type === 'tool-invocation').map(part => part.toolInvocation);
const contents = page => page.hook.messages.map(message => message.content);

async function open(settings) {
  const recorder = new Recorder();
  const errors = [];
  const onError = error => errors.push(error);
  const given = { api, fetch: recorder.fetch, onError, ...settings };
  const page = await mount(() => hooks.useChat(given));
  return Object.assign(page, {
    recorder,
    errors,
    say: async content => {
      await page.hook.append({ role: 'user', content });
      await page.settled();
    },
    answers: () => checked(recorder, settings.id),
  });
}

async function checked(recorder, chatId, options = {}) {
  const answers = [];
  for (const exchange of recorder.exchanges) {
    if (exchange.status !== 200) continue;
    await exchange.done;
    checkDataHeaders(exchange.headers, exchange.method === 'POST' ? chatId : null);
    const cut = options.cut || !exchange.ended;
    const lines = readLines(exchange.text, { cut });
    if (lines.length > 0) checkOrder(lines, { cut });
    answers.push(lines);
  }
  return answers;
}

const words = page => until(() => (page.hook.messages[1]?.content ?? '').split(' ').length > 4, 'the first words');
const path = (id, what) => `${api}/${encodeURIComponent(id)}/${what}`;
const history = async id => (await fetch(path(id, 'messages'))).json();
const storedTexts = async id => (await history(id)).messages.map(message =>
  message.parts.filter(part => part.type === 'text').map(part => part.text).join(''));

const scenarios = {
  async text() {
    const id = newId();
    const page = await open({ id });
    await page.say('Grüße, 世界 🌊 "quoted" \\ done');
    same(page.hook.status, 'ready', 'status');
    same(contents(page)[1], 'echo: Grüße, 世界 🌊 "quoted" \\ done', 'answer');
    check(!('trigger' in page.recorder.last.body), 'this client has begun to send a trigger');
    const [lines] = await page.answers();
    same(lines[0].code, 'f', 'first line');
    same(lines.at(-1).value.finishReason, 'stop', 'finish reason');
    check(lines.at(-1).value.usage?.completionTokens > 0, 'no usage');
    check(lines.filter(line => line.code === '0').length > 1, 'the text came in one piece');
    same(page.hook.messages[1].id, (await history(id)).messages[1].id, 'id of the answer');
    await page.say('!history');
    same(contents(page)[3], 'history: 3', 'messages that the server knows');
    same(await storedTexts(id), contents(page), 'stored messages');
    page.leave();
  },

  async reasoning() {
    const id = newId();
    const page = await open({ id });
    await page.say('!reason first this, then that\nso');
    const [, answer] = page.hook.messages;
    same(answer.parts.map(part => part.type), ['step-start', 'reasoning', 'text'], 'parts');
    same(answer.parts[1].reasoning, 'first this, then that', 'reasoning');
    await page.answers();
    page.leave();
  },

  async data() {
    const id = newId();
    const page = await open({ id });
    await page.say('!data load {"percent":10}\ndone');
    same(page.hook.data.map(entry => [entry.type, entry.data]), [['data-load', { percent: 10 }]], 'data');
    await page.answers();
    page.leave();
  },

  async 'server-tool'() {
    const id = newId();
    const page = await open({ id });
    await page.say('!tool add {"a":-3,"b":10.5}\nthat is it');
    const [call] = invocations(page.hook.messages[1]);
    same([call.toolName, call.state, call.args, call.result], ['add', 'result', { a: -3, b: 10.5 }, 7.5], 'call');
    same(contents(page)[1], 'echo: that is it', 'text');
    const [lines] = await page.answers();
    same(lines.filter(line => 'fed'.includes(line.code)).map(line => line.code).join(''), 'fefed', 'steps');
    same(page.recorder.exchanges.length, 1, 'requests');
    page.leave();
  },

  async 'failing-tool'() {
    const id = newId();
    const page = await open({ id });
    await page.say('!tool fail {"message":"disk is full"}\nand yet');
    const [call] = invocations(page.hook.messages[1]);
    same([call.state, call.result], ['result', { error: 'disk is full' }], 'failed call');
    same(contents(page)[1], 'echo: and yet', 'the turn goes on');
    await page.answers();
    page.leave();
  },

  async 'client-tool'() {
    const id = newId();
    const asked = [];
    const onToolCall = ({ toolCall }) => {
      asked.push(toolCall.args);
      return { city: 'Wien' };
    };
    const page = await open({ id, maxSteps: 3, onToolCall });
    await page.say('!client-tool locate {"zip":1010}');
    await until(() => contents(page)[1]?.includes('}'), 'the continuation');
    await page.settled();
    same(asked, [{ zip: 1010 }], 'calls that reached the page');
    same(page.hook.messages.length, 2, 'one answer over both requests');
    same(page.recorder.exchanges.length, 2, 'requests');
    const [call] = invocations(page.hook.messages[1]);
    same([call.state, call.result], ['result', { city: 'Wien' }], 'call');
    check(contents(page)[1].endsWith('tool said {"city":"Wien"}'), `continuation: ${contents(page)[1]}`);
    const [first] = await page.answers();
    same(first.at(-1).value.finishReason, 'tool-calls', 'finish reason of the first answer');
    same((await history(id)).messages.length, 2, 'stored messages');
    page.leave();
  },

  async stop() {
    const id = newId();
    const page = await open({ id });
    const sent = page.hook.append({ role: 'user', content: '!slow 300 20' });
    await words(page);
    same((await fetch(path(id, 'stop'), { method: 'POST' })).status, 200, 'POST stop');
    const idle = await fetch(`${api}?chatId=${id}`);
    same([idle.status, await idle.text()], [200, ''], 'resume right after the stop');
    await sent;
    await page.settled();
    same([page.hook.status, page.errors.length], ['ready', 0], 'status and errors after the stop');
    await checked(page.recorder, id, { cut: true });
    const [, partial] = await storedTexts(id);
    check(partial.length > 0 && counted(300).startsWith(partial), 'the part said so far is stored');
    await page.say('onward');
    same(contents(page).at(-1), 'echo: onward', 'the turn after the stop');
    page.leave();
  },

  async 'disconnect-is-no-stop'() {
    const id = newId();
    const page = await open({ id });
    const sent = page.hook.append({ role: 'user', content: '!slow 50 20' });
    await words(page);
    page.hook.stop();
    await sent;
    page.leave();
    await until(async () => !(await history(id)).active, 'the turn to end on its own');
    same(await storedTexts(id), ['!slow 50 20', counted(50)], 'stored messages');
  },

  async resume() {
    const id = newId();
    const first = await open({ id });
    const sent = first.hook.append({ role: 'user', content: '!tool add {"a":1,"b":2}\n!slow 60 20' });
    await words(first);
    const second = await open({ id, initialMessages: [first.hook.messages[0]] });
    await second.hook.experimental_resume();
    await until(() => second.hook.status === 'streaming', 'the second page to stream');
    same(second.recorder.last.url, `${api}?chatId=${id}`, 'request of the second page');
    await sent;
    await first.settled();
    await second.settled();
    same(contents(second)[1], counted(60), 'text on the second page');
    same(second.hook.messages[1].parts.map(part => part.type), first.hook.messages[1].parts.map(part => part.type), 'parts');
    await first.answers();
    await second.answers();
    first.leave();
    second.leave();
  },

  async 'resume-idle'() {
    const id = newId();
    const page = await open({ id });
    await page.hook.experimental_resume();
    await until(() => page.recorder.last?.status, 'the request');
    await page.settled();
    same([page.recorder.last.status, page.recorder.last.text], [200, ''], 'resume of an unknown chat');
    same(page.hook.status, 'ready', 'status');
    page.leave();
  },

  async error() {
    const id = newId();
    const page = await open({ id });
    await page.say('!error the model is ill');
    same([page.hook.status, page.hook.error?.message], ['error', 'the model is ill'], 'status and error');
    same(contents(page)[1], 'partial ', 'what came before the error stays');
    await page.answers();
    await page.say('well again');
    same([page.hook.status, contents(page).at(-1)], ['ready', 'echo: well again'], 'next answer');
    page.leave();
  },

  async 'http-error'() {
    const id = newId();
    const page = await open({ id });
    await page.say('!http 503');
    same([page.hook.status, page.recorder.last.status], ['error', 503], 'status of hook and response');
    check(page.hook.error.message.startsWith('{"error"'), `what the user sees: ${page.hook.error.message}`);
    page.leave();
  },

  async reload() {
    const id = newId();
    const page = await open({ id });
    await page.say('once more');
    await page.hook.reload();
    await page.settled();
    same(contents(page), ['once more', 'echo: once more'], 'messages');
    same(await storedTexts(id), ['once more', 'echo: once more'], 'stored messages');
    page.leave();
  },

  async busy() {
    const id = newId();
    const [first, second] = [await open({ id }), await open({ id })];
    const sent = first.hook.append({ role: 'user', content: '!slow 40 20' });
    await words(first);
    await second.say('me too');
    same([second.hook.status, second.recorder.last.status], ['error', 409], 'the second sender');
    await sent;
    await first.settled();
    same(contents(first)[1], counted(40), 'the first answer');
    first.leave();
    second.leave();
  },

  async 'forced-by-query'() {
    const id = newId();
    const recorder = new Recorder();
    const message = { id: newId('m'), role: 'user', parts: [{ type: 'text', text: 'asked for' }] };
    const response = await recorder.fetch(`${api}?protocol=v4`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ id, message, trigger: 'submit-message' }),
    });
    same(response.status, 200, 'status');
    await response.text();
    const [lines] = await checked(recorder, id);
    same(lines.filter(line => line.code === '0').map(line => line.value).join(''), 'echo: asked for', 'text');
  },

  async completion() {
    const recorder = new Recorder();
    const settings = { api: `${base}/api/completion?protocol=v4`, fetch: recorder.fetch };
    const page = await mount(() => hooks.useCompletion(settings));
    await page.hook.complete('finish thís');
    await until(() => !page.hook.isLoading, 'the completion');
    await sleep(20);
    same(page.hook.completion, 'echo: finish thís', 'completion');
    await checked(recorder, null);
    page.leave();
  },
};

await run('ai 4', scenarios, only);
finish();

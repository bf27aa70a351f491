// Stop, lost connections, reloads, two readers, the WebSocket transport.
import { check, newId, same, sameValue, skip, sleep, until } from '../harness.mjs';
import { checkChunks } from '../uistream.mjs';
import { counted, textOf } from './client.mjs';

const copy = value => JSON.parse(JSON.stringify(value));
const words = (page, index, count = 4) =>
  until(() => textOf(page.hook.messages[index]).split(' ').length > count, 'the first words');

export const network = client => ({
  async stop() {
    const id = newId();
    const page = await client.open({ id });
    const sent = page.hook.sendMessage({ text: '!slow 300 20' });
    await words(page, 1);
    const stopped = await client.stop(id);
    same(stopped.status, 200, 'POST stop');
    await stopped.json();
    same((await client.resume(id)).status, 204, 'resume right after the stop');
    await sent;
    await page.settled();
    same([page.hook.status, page.errors.length], ['ready', 0], 'status and errors after the stop');
    const [, partial] = await client.stored(id);
    check(textOf(partial).length > 0 && counted(300).startsWith(textOf(partial)), 'the part said so far is stored');
    check(partial.parts.every(part => part.state !== 'streaming'), 'the stored part is still streaming');
    const [chunks] = await page.answers();
    same(chunks.at(-1).type, 'abort', 'last chunk');
    await sleep(150);
    sameValue((await client.stored(id))[1], partial, 'the answer grew after the stop');
    await client.sameAsStored(id, page);
    await page.say('onward');
    same(textOf(page.hook.messages.at(-1)), 'echo: onward', 'the turn after the stop');
    page.leave();
  },

  async 'stop-other-stream'() {
    const id = newId();
    const page = await client.open({ id });
    const sent = page.hook.sendMessage({ text: '!slow 30 20' });
    await words(page, 1);
    same((await client.stop(id, '{"activeStreamId":"of-yesterday"}')).status, 200, 'POST stop');
    await sent;
    await page.settled();
    same(textOf(page.hook.messages[1]), counted(30), 'the running answer');
    same((await client.stop(id, '')).status, 200, 'POST stop without a body, nothing running');
    page.leave();
  },

  async 'disconnect-is-no-stop'() {
    const id = newId();
    const page = await client.open({ id });
    const sent = page.hook.sendMessage({ text: '!slow 50 20' });
    await words(page, 1);
    await page.hook.stop();
    await sent;
    page.leave();
    await until(async () => !(await client.history(id)).active, 'the turn to end on its own');
    same((await client.stored(id)).map(textOf), ['!slow 50 20', counted(50)], 'stored messages');
  },

  async resume() {
    const id = newId();
    const first = await client.open({ id });
    const sent = first.hook.sendMessage({ text: '!reason hm\n!tool add {"a":1,"b":2}\n!slow 60 20' });
    await words(first, 1);
    const { messages, active } = await client.history(id);
    same(active, true, 'active while the turn runs');
    const second = await client.open({ id, messages, resume: true });
    await until(() => second.recorder.last?.status, 'the request of the second page');
    const { method, url, status } = second.recorder.last;
    same([method, url, status], ['GET', client.path(id, 'stream'), 200], 'request of the second page');
    await until(() => second.hook.status === 'streaming', 'the second page to stream');
    await sent;
    await first.settled();
    await second.settled();
    sameValue(second.hook.messages, first.hook.messages, 'both pages show the same');
    same(textOf(second.hook.messages[1]), counted(60), 'text');
    await first.answers();
    await second.answers();
    await client.sameAsStored(id, second);
    same((await client.history(id)).active, false, 'active afterwards');
    const third = await client.open({ id, messages: await client.stored(id), resume: true });
    await until(() => third.recorder.last?.status, 'the request of the third page');
    await third.settled();
    same([third.recorder.last.status, third.hook.status], [204, 'ready'], 'resume of a finished turn');
    same(third.hook.messages.length, 2, 'messages of the third page');
    for (const page of [first, second, third]) page.leave();
  },

  async 'history-in-mid-answer'() {
    const id = newId();
    const page = await client.open({ id });
    const sent = page.hook.sendMessage({ text: '!slow 40 20' });
    await words(page, 1);
    const { messages, active } = await client.history(id);
    same(active, true, 'active');
    const said = messages.filter(message => message.role === 'assistant').flatMap(message => message.parts);
    same(said, [], 'what the stream will bring again');
    await sent;
    page.leave();
  },

  async 'resume-new-chat'() {
    const page = await client.open({ id: newId('a/b ?#%20'), resume: true });
    await until(() => page.recorder.last?.status, 'the request');
    await page.settled();
    same([page.recorder.last.status, page.hook.status], [204, 'ready'], 'resume of an unknown chat');
    await page.say('first words');
    same(textOf(page.hook.messages[1]), 'echo: first words', 'answer');
    await client.sameAsStored(page.hook.id, page);
    page.leave();
  },

  async 'reconnect-same-page'() {
    if (client.version < 6) skip('this version appends the replay to what it has');
    const id = newId();
    const page = await client.open({ id, ownChat: client.version === 6 });
    const sent = page.hook.sendMessage({ text: '!slow 60 20' });
    await words(page, 1);
    page.recorder.loseNetwork();
    await sent;
    await until(() => page.hook.status === 'error', 'the loss to be noticed');
    check(page.finishes[0].isDisconnect, 'the loss was not taken for a disconnect');
    await page.hook.resumeStream();
    await page.settled();
    same(page.hook.messages.map(textOf), ['!slow 60 20', counted(60)], 'messages');
    await client.sameAsStored(id, page);
    page.leave();
  },

  async websocket() {
    if (!client.sdk.WebSocketChatTransport) skip('this version has no WebSocket transport');
    const id = newId();
    const wire = openWire(client);
    const page = await client.open({ id, transport: wire.transport });
    await page.say('over the socket');
    same(page.errors.map(String), [], 'errors');
    same(textOf(page.hook.messages[1]), 'echo: over the socket', 'text');
    checkFrames(wire.frames);
    await client.sameAsStored(id, page);
    wire.close();
    page.leave();
  },

  async 'websocket-resume'() {
    if (!client.sdk.WebSocketChatTransport) skip('this version has no WebSocket transport');
    const id = newId();
    const [one, two, three] = [openWire(client), openWire(client), openWire(client)];
    const first = await client.open({ id, transport: one.transport });
    const sent = first.hook.sendMessage({ text: '!slow 60 20' });
    await words(first, 1);
    const busy = await client.open({ id, transport: three.transport });
    await busy.say('me too');
    same(busy.hook.status, 'error', 'a second send while the turn runs');
    const second = await client.open({
      id, transport: two.transport, messages: copy(await client.stored(id)), resume: true,
    });
    await until(() => two.frames.length > 0, 'frames of the resumed answer');
    one.drop();
    await sent;
    await until(() => second.hook.status === 'ready' && textOf(second.hook.messages.at(-1)).includes('w59'), 'the rest');
    same(second.hook.messages.map(textOf), ['!slow 60 20', counted(60)], 'messages of the second page');
    same(two.frames[0].type, 'start', 'first frame of a resume');
    checkFrames(two.frames);
    await client.sameAsStored(id, second);
    const late = await client.open({ id, transport: three.transport, messages: copy(await client.stored(id)), resume: true });
    await until(() => three.frames.some(frame => frame.type === 'no-active'), 'no-active');
    await late.settled();
    same(late.hook.status, 'ready', 'status after no-active');
    for (const wire of [one, two, three]) wire.close();
    for (const page of [first, second, busy, late]) page.leave();
  },

  async 'websocket-stop'() {
    if (!client.sdk.WebSocketChatTransport) skip('this version has no WebSocket transport');
    const id = newId();
    const wire = openWire(client);
    const page = await client.open({ id, transport: wire.transport });
    const sent = page.hook.sendMessage({ text: '!slow 300 20' });
    await words(page, 1);
    await page.hook.stop();
    await sent;
    await page.settled();
    await until(async () => !(await client.history(id)).active, 'the turn to stop');
    const partial = textOf((await client.stored(id))[1]);
    check(partial.length > 0 && !partial.includes('w290'), 'the abort frame did not stop the turn');
    await page.say('onward');
    same(textOf(page.hook.messages.at(-1)), 'echo: onward', 'the next answer on the same socket');
    wire.close();
    page.leave();
  },

  async 'websocket-bad-frame'() {
    if (!client.sdk.WebSocketChatTransport) skip('this version has no WebSocket transport');
    for (const frame of ['not json', '{"type":"dance","requestId":"r"}']) {
      const socket = new WebSocket(`${client.api.replace(/^http/, 'ws')}/ws`);
      const code = await new Promise((resolve, reject) => {
        socket.onopen = () => socket.send(frame);
        socket.onclose = event => resolve(event.code);
        socket.onerror = () => reject(new Error('the socket failed'));
      });
      same(code, 1008, `close code after ${frame}`);
    }
  },
});

/** A transport whose frames are kept and whose sockets can be lost. */
function openWire(client) {
  const frames = [];
  const sockets = [];
  class Recorded extends WebSocket {
    constructor(...parameters) {
      super(...parameters);
      sockets.push(this);
      this.addEventListener('message', event => frames.push(JSON.parse(event.data)));
    }
  }
  const transport = new client.sdk.WebSocketChatTransport({
    url: `${client.api.replace(/^http/, 'ws')}/ws`,
    webSocket: Recorded,
  });
  const drop = () => sockets.forEach(socket => socket.close());
  return { frames, transport, drop, close: () => transport.close() };
}

function checkFrames(frames) {
  const chunks = frames.filter(frame => frame.type === 'chunk');
  chunks.forEach((frame, index) => same(frame.sequence, index, 'sequence'));
  checkChunks(chunks.map(frame => frame.chunk));
  same(frames.at(-1).type, 'end', 'last frame');
}

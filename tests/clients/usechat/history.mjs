// What the server makes of the history that a client posts.
import { check, newId, same, until } from '../harness.mjs';
import { counted, textOf } from './client.mjs';

const post = (client, body) => fetch(client.api, {
  method: 'POST',
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify(body),
});
const user = (id, text) => ({ id, role: 'user', parts: [{ type: 'text', text }] });

export const history = client => ({
  async regenerate() {
    const id = newId();
    const page = await client.open({ id });
    await page.say('once more');
    const first = page.hook.messages[1].id;
    await page.hook.regenerate();
    await page.settled();
    same(page.recorder.last.body.trigger, 'regenerate-message', 'trigger');
    same(page.hook.messages.map(textOf), ['once more', 'echo: once more'], 'messages');
    check(page.hook.messages[1].id !== first, 'the new answer has the id of the old one');
    await page.answers();
    await client.sameAsStored(id, page);
    page.leave();
  },

  async 'regenerate-earlier'() {
    const id = newId();
    const page = await client.open({ id });
    await page.say('one');
    await page.say('two');
    await page.hook.regenerate({ messageId: page.hook.messages[1].id });
    await page.settled();
    same(page.hook.messages.map(textOf), ['one', 'echo: one'], 'what followed is gone');
    await page.answers();
    await client.sameAsStored(id, page);
    page.leave();
  },

  async edit() {
    const id = newId();
    const page = await client.open({ id });
    await page.say('one');
    await page.say('two');
    const messageId = page.hook.messages[0].id;
    await page.hook.sendMessage({ text: 'eins', messageId });
    await page.settled();
    same(page.hook.messages.map(textOf), ['eins', 'echo: eins'], 'messages');
    same((await client.stored(id))[0].id, messageId, 'the edited message keeps its id');
    await page.answers();
    await client.sameAsStored(id, page);
    page.leave();
  },

  async busy() {
    const id = newId();
    const [first, second] = [await client.open({ id }), await client.open({ id })];
    const sent = first.hook.sendMessage({ text: '!slow 40 20' });
    await until(() => textOf(first.hook.messages[1]).length > 5, 'the first words');
    await second.say('me too');
    same([second.hook.status, second.recorder.last.status], ['error', 409], 'the second sender');
    await sent;
    await first.settled();
    same(textOf(first.hook.messages[1]), counted(40), 'the first answer');
    same((await client.stored(id)).length, 2, 'stored messages');
    await first.answers();
    first.leave();
    second.leave();
  },

  async 'last-message-only'() {
    const id = newId();
    for (const text of ['one', '!history']) {
      const response = await post(client, { id, message: user(newId('m'), text), trigger: 'submit-message' });
      same(response.status, 200, `POST of ${text}`);
      await response.text();
    }
    same((await client.stored(id)).map(textOf), ['one', 'echo: one', '!history', 'history: 3'], 'messages');
  },

  async 'own-copy-wins'() {
    const id = newId();
    const page = await client.open({ id });
    await page.say('the truth');
    const [question, answer] = page.hook.messages;
    const forged = { ...answer, parts: [{ type: 'text', text: 'a lie' }] };
    const messages = [question, forged, user(newId('m'), 'next')];
    await (await post(client, { id, messages, trigger: 'submit-message' })).text();
    same(textOf((await client.stored(id))[1]), 'echo: the truth', 'the stored answer');
    page.leave();
  },

  async 'foreign-continuation'() {
    const id = newId();
    const page = await client.open({ id });
    await page.say('hello');
    const foreign = { id: 'nobody', role: 'assistant', parts: [{ type: 'text', text: 'mine' }] };
    const messages = [page.hook.messages[0], foreign];
    const response = await post(client, { id, messages, trigger: 'submit-message', messageId: 'nobody' });
    check(response.status >= 400 && response.status < 500, `status ${response.status}`);
    await client.sameAsStored(id, page);
    page.leave();
  },
});

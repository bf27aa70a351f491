// The conversations of the openai package, and the sessions of the Agents SDK that are built on them.
import { Agent, OpenAIConversationsSession, setTracingDisabled } from '@openai/agents';
import OpenAI from 'openai';
import { ask, says, ScriptedModel, textsOf } from './agents/model.mjs';
import { check, finish, newId, readArguments, refused, run, same, sameValue } from './harness.mjs';

const { base, only } = readArguments();
const { conversations } = new OpenAI({ baseURL: `${base}/v1`, apiKey: 'unused', maxRetries: 0 });
setTracingDisabled(true);

const user = text => ({ type: 'message', role: 'user', content: text });
const users = count => Array.from({ length: count }, (_, i) => user(`question ${i}`));
const contents = items => items.map(item => item.content[0].text);
const all = async (id, options) => {
  const items = [];
  for await (const item of conversations.items.list(id, options)) items.push(item);
  return items;
};
const missing = async (promise, what) => {
  const error = await refused(promise, what);
  check(error instanceof OpenAI.NotFoundError, `${what}: ${error}`);
  check(typeof error.error?.message === 'string', `${what}: no error.message in ${JSON.stringify(error.error)}`);
};

const scenarios = {
  async create() {
    const before = Math.floor(Date.now() / 1000);
    const made = await conversations.create({ metadata: { topic: 'tests', run: '1' } });
    same(made.object, 'conversation', 'object');
    check(/^conv_\w+/.test(made.id), `id ${made.id}`);
    check(Number.isInteger(made.created_at) && Math.abs(made.created_at - before) < 60, `created_at ${made.created_at}`);
    sameValue(made.metadata, { topic: 'tests', run: '1' }, 'metadata');
    sameValue(await conversations.retrieve(made.id), made, 'retrieved');
    const plain = await conversations.create();
    sameValue(plain.metadata, {}, 'metadata of a conversation without any');
    check(plain.id !== made.id, 'two conversations have one id');
  },

  async 'create-with-items'() {
    const { id } = await conversations.create({ items: users(3) });
    same(contents(await all(id, { order: 'asc' })), ['question 0', 'question 1', 'question 2'], 'items');
  },

  async update() {
    const made = await conversations.create({ metadata: { old: 'yes' }, items: users(1) });
    const changed = await conversations.update(made.id, { metadata: { fresh: 'yes' } });
    sameValue(changed, { ...made, metadata: { fresh: 'yes' } }, 'updated');
    sameValue(await conversations.retrieve(made.id), changed, 'retrieved');
    same((await all(made.id)).length, 1, 'items');
  },

  async delete() {
    const { id } = await conversations.create({ items: users(2) });
    sameValue(await conversations.delete(id), { id, object: 'conversation.deleted', deleted: true }, 'answer');
    await missing(conversations.retrieve(id), 'a deleted conversation');
  },

  async unknown() {
    const id = 'conv_0000';
    await missing(conversations.retrieve(id), 'retrieve');
    await missing(conversations.update(id, { metadata: {} }), 'update');
    await missing(conversations.delete(id), 'delete');
    await missing(conversations.items.create(id, { items: users(1) }), 'items.create');
    await missing(all(id), 'items.list');
    const made = await conversations.create();
    await missing(conversations.items.retrieve('msg_0000', { conversation_id: made.id }), 'items.retrieve');
  },

  async 'items-create'() {
    const { id } = await conversations.create();
    const call = { type: 'function_call', call_id: 'call_1', name: 'multiply', arguments: '{"x": 6,  "y":7}' };
    const output = { type: 'function_call_output', call_id: 'call_1', output: '42' };
    const answer = {
      type: 'message', role: 'assistant', content: [{ type: 'output_text', text: 'it is 42', annotations: [] }],
    };
    const list = await conversations.items.create(id, { items: [user('six by seven? 🌊'), call, output, answer] });
    same([list.object, list.data.length, list.has_more], ['list', 4, false], 'answer');
    same([list.first_id, list.last_id], [list.data[0].id, list.data[3].id], 'first and last id');
    const [first, second, third, fourth] = list.data;
    sameValue(first, {
      type: 'message', role: 'user', id: first.id, status: 'completed',
      content: [{ type: 'input_text', text: 'six by seven? 🌊' }],
    }, 'a message of the user');
    check(/^msg_\w+/.test(first.id), `id ${first.id}`);
    same([second.type, second.call_id, second.name, second.arguments], Object.values(call), 'a call');
    same([third.type, third.call_id, third.output], Object.values(output), 'its output');
    same([fourth.role, fourth.content[0].type, fourth.content[0].text], ['assistant', 'output_text', 'it is 42'], 'answer');
    same(new Set(list.data.map(item => item.id)).size, 4, 'ids');
    sameValue(await all(id, { order: 'asc' }), list.data, 'listed');
  },

  async 'items-list'() {
    const { id } = await conversations.create();
    for (const from of [0, 20]) await conversations.items.create(id, { items: users(45).slice(from, from + 20) });
    await conversations.items.create(id, { items: users(45).slice(40) });
    const page = await conversations.items.list(id);
    same([page.data.length, page.has_more], [20, true], 'a page without a limit');
    same(page.data[0].content[0].text, 'question 44', 'the newest comes first');
    same(page.last_id, page.data[19].id, 'last id');
    const wanted = users(45).map(item => item.content);
    for (const limit of [1, 7, 45, 100]) {
      same(contents(await all(id, { order: 'asc', limit })), wanted, `all, oldest first, ${limit} a page`);
    }
    same(contents(await all(id, { limit: 11 })), [...wanted].reverse(), 'all, newest first');
    const third = (await all(id, { order: 'asc', limit: 100 }))[2];
    const after = await conversations.items.list(id, { order: 'asc', limit: 2, after: third.id });
    same([contents(after.data), after.has_more], [['question 3', 'question 4'], true], 'after the third');
    const before = await conversations.items.list(id, { order: 'desc', limit: 5, after: third.id });
    same([contents(before.data), before.has_more], [['question 1', 'question 0'], false], 'older than the third');
  },

  async 'items-empty'() {
    const { id } = await conversations.create();
    const page = await conversations.items.list(id);
    same([page.object ?? 'list', page.data, page.has_more], ['list', [], false], 'page');
  },

  async 'items-retrieve'() {
    const { id } = await conversations.create({ items: users(2) });
    const [, second] = await all(id, { order: 'asc' });
    sameValue(await conversations.items.retrieve(second.id, { conversation_id: id }), second, 'item');
  },

  async 'items-delete'() {
    const made = await conversations.create({ items: users(3) });
    const [first, second, third] = await all(made.id, { order: 'asc' });
    sameValue(await conversations.items.delete(second.id, { conversation_id: made.id }), made, 'answer');
    same((await all(made.id, { order: 'asc' })).map(item => item.id), [first.id, third.id], 'items');
    await missing(conversations.items.retrieve(second.id, { conversation_id: made.id }), 'a deleted item');
  },

  async 'too-many-items'() {
    const error = await refused(conversations.create({ items: users(21) }), '21 items at once');
    check(error instanceof OpenAI.BadRequestError, String(error));
  },

  async 'agents-session'() {
    const client = new OpenAI({ baseURL: `${base}/v1`, apiKey: 'unused', maxRetries: 0 });
    const session = new OpenAIConversationsSession({ client });
    const model = new ScriptedModel(says('Wien'), says('Donau'));
    const agent = new Agent({ name: 'Guide', model });
    await ask(agent, 'which city?', { session });
    await ask(agent, 'which river?', { session });
    same(textsOf(model.inputs[1]), ['which city?', 'Wien', 'which river?'], 'what the model saw');
    same(textsOf(await session.getItems(2)), ['which river?', 'Donau'], 'latest 2');
    same(textsOf([await session.popItem()]), ['Donau'], 'pop');
    same((await session.getItems()).length, 3, 'items after pop');
    await session.clearSession();
    same(await session.getItems(), [], 'items after clear');
  },

  async 'two-processes'() {
    const { id } = await conversations.create();
    await Promise.all(Array.from({ length: 12 }, (_, i) =>
      conversations.items.create(id, { items: [user(`${i}.a`), user(`${i}.b`)] })));
    const got = contents(await all(id, { order: 'asc' }));
    same(got.length, 24, 'items');
    for (let i = 0; i < 24; i += 2) same(got[i + 1], got[i].replace('a', 'b'), 'a batch stays together');
  },
};

await run('conversations', scenarios, only);
finish();

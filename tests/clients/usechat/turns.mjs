// What one turn may hold: text, reasoning, data, tools of the server and of the client, errors.
import { check, newId, same, sameValue, skip, until } from '../harness.mjs';
import { textOf, toolsOf } from './client.mjs';

const kinds = message => message.parts.map(part => part.type);
const steps = message => message.parts.filter(part => part.type === 'step-start').length;

export const turns = client => ({
  async text() {
    const id = newId();
    const page = await client.open({ id });
    await page.say('Grüße, 世界 🌊 "quoted" \\ done');
    same([page.statuses.at(0), page.statuses.at(-1)], ['ready', 'ready'], 'first and last status');
    const [question, answer] = page.hook.messages;
    same(page.hook.messages.map(message => message.role), ['user', 'assistant'], 'roles');
    same(textOf(answer), 'echo: Grüße, 世界 🌊 "quoted" \\ done', 'text');
    same(answer.parts.at(-1).state, 'done', 'state of the text');
    same(answer.metadata.model, 'echo', 'metadata of start');
    check(answer.metadata.usage?.outputTokens > 0, 'no usage in the metadata of finish');
    const [chunks] = await page.answers();
    same(chunks[0].messageId, answer.id, 'message id');
    same(chunks.at(-1).finishReason, 'stop', 'finish reason');
    check(chunks.filter(chunk => chunk.type === 'text-delta').length > 1, 'the text came in one piece');
    same((await client.stored(id))[0].id, question.id, 'id of the question');
    await page.say('!history');
    same(textOf(page.hook.messages[3]), 'history: 3', 'messages that the server knows');
    await client.sameAsStored(id, page);
    same(page.errors, [], 'errors');
    page.leave();
  },

  async files() {
    const id = newId();
    const page = await client.open({ id });
    const url = `data:image/png;base64,${'iVBORw0KGgo'.repeat(20_000)}`;
    const files = [{ type: 'file', mediaType: 'image/png', filename: 'chart.png', url }];
    await page.hook.sendMessage({ text: 'what is this?', files, metadata: { from: 'camera' } });
    await page.settled();
    same(textOf(page.hook.messages[1]), 'echo: what is this?', 'answer');
    const [question] = await client.stored(id);
    same([question.parts[0].url === url, question.metadata], [true, { from: 'camera' }], 'the stored question');
    await client.sameAsStored(id, page);
    page.leave();
  },

  async lines() {
    const id = newId();
    const page = await client.open({ id });
    await page.say('first\nsecond');
    const texts = page.hook.messages[1].parts.filter(part => part.type === 'text');
    same(texts.map(part => part.text), ['echo: first', 'echo: second'], 'one part per line');
    await page.answers();
    await client.sameAsStored(id, page);
    page.leave();
  },

  async reasoning() {
    const id = newId();
    const page = await client.open({ id });
    await page.say('!reason first this, then that\nso');
    const answer = page.hook.messages[1];
    same(kinds(answer), ['step-start', 'reasoning', 'text'], 'parts');
    same(answer.parts[1].text, 'first this, then that', 'reasoning');
    same(answer.parts[1].state, 'done', 'state of the reasoning');
    await page.answers();
    await client.sameAsStored(id, page);
    page.leave();
  },

  async data() {
    const id = newId();
    const page = await client.open({ id });
    await page.say('!data load {"percent":10,"list":[1,null]}\n!data load {"percent":90}\ndone');
    const parts = page.hook.messages[1].parts.filter(part => part.type === 'data-load');
    same(parts.length, 1, 'data of one name and id is one part');
    same(parts[0].data, { percent: 90 }, 'the later data');
    same(page.data.map(part => part.data.percent), [10, 90], 'every piece was announced');
    await page.answers();
    await client.sameAsStored(id, page);
    page.leave();
  },

  async 'server-tool'() {
    const id = newId();
    const page = await client.open({ id });
    await page.say('!tool add {"a":-3,"b":10.5}\nthat is it\n!tool lookup {"q":["x",{"y":null}]}');
    const answer = page.hook.messages[1];
    const [add, lookup] = toolsOf(answer);
    same([add.type, add.state, add.input, add.output], ['tool-add', 'output-available', { a: -3, b: 10.5 }, 7.5], 'first call');
    same(lookup.output, { ok: true, name: 'lookup', input: { q: ['x', { y: null }] } }, 'second call');
    same(textOf(answer), 'echo: that is it', 'text');
    same(steps(answer), 2, 'steps');
    await page.answers();
    await client.sameAsStored(id, page);
    page.leave();
  },

  async 'failing-tool'() {
    const id = newId();
    const page = await client.open({ id });
    await page.say('!tool fail {"message":"disk is full"}\nand yet');
    const answer = page.hook.messages[1];
    const [call] = toolsOf(answer);
    same([call.state, call.errorText], ['output-error', 'disk is full'], 'failed call');
    same(page.hook.status, 'ready', 'a failed tool is no failed turn');
    same(textOf(answer), 'echo: and yet', 'the turn goes on');
    await page.answers();
    await client.sameAsStored(id, page);
    page.leave();
  },

  async 'client-tool'() {
    const id = newId();
    const asked = [];
    const page = await client.open({
      id,
      sendAutomaticallyWhen: client.sdk.lastAssistantMessageIsCompleteWithToolCalls,
      onToolCall: ({ toolCall }) => {
        asked.push(toolCall.input);
        page.hook.addToolOutput({
          tool: toolCall.toolName,
          toolCallId: toolCall.toolCallId,
          output: { city: toolCall.input.zip === 1010 ? 'Wien' : '?' },
        });
      },
    });
    await page.hook.sendMessage({ text: '!client-tool locate {"zip":1010}' });
    await until(() => page.recorder.exchanges.length === 2, 'the second request');
    await until(() => textOf(page.hook.messages[1]).includes('}'), 'the continuation');
    await page.settled();
    same(asked, [{ zip: 1010 }], 'calls that reached the page');
    same(page.hook.messages.length, 2, 'one answer over both requests');
    const answer = page.hook.messages[1];
    const [call] = toolsOf(answer);
    same([call.type, call.state, call.output], ['tool-locate', 'output-available', { city: 'Wien' }], 'call');
    same(textOf(answer), 'tool said {"city":"Wien"}', 'continuation');
    same(steps(answer), 2, 'steps');
    const [first, second] = await page.answers();
    same(first.at(-1).finishReason, 'tool-calls', 'finish reason of the first answer');
    same(second[0].messageId, answer.id, 'the continuation is the same message');
    check(!second.some(chunk => chunk.type.startsWith('tool-')), 'the result was sent back to its sender');
    await client.sameAsStored(id, page);
    page.leave();
  },

  async 'client-tool-error'() {
    const id = newId();
    const page = await client.open({
      id,
      sendAutomaticallyWhen: client.sdk.lastAssistantMessageIsCompleteWithToolCalls,
      onToolCall: ({ toolCall: { toolName, toolCallId } }) => {
        page.hook.addToolOutput({ state: 'output-error', tool: toolName, toolCallId, errorText: 'no camera' });
      },
    });
    await page.hook.sendMessage({ text: '!client-tool photo {}' });
    await until(() => page.recorder.exchanges.length === 2, 'the second request');
    await until(() => textOf(page.hook.messages[1]).length > 9, 'the continuation');
    await page.settled();
    const [call] = toolsOf(page.hook.messages[1]);
    same([call.state, call.errorText], ['output-error', 'no camera'], 'call');
    await page.answers();
    await client.sameAsStored(id, page);
    page.leave();
  },

  async approval() {
    if (client.version < 6) skip('this version has no approvals');
    const id = newId();
    const page = await client.open({
      id,
      sendAutomaticallyWhen: client.sdk.lastAssistantMessageIsCompleteWithApprovalResponses,
    });
    const call = () => toolsOf(page.hook.messages.at(-1))[0];
    const answer = async response => {
      const requests = page.recorder.exchanges.length;
      await page.hook.addToolApprovalResponse({ id: call().approval.id, ...response });
      await until(() => page.recorder.exchanges.length === requests + 1, 'the request with the answer');
      await until(() => textOf(page.hook.messages.at(-1)).length > 9, 'the continuation');
      await page.settled();
    };
    await page.say('!approve erase {"disk":"sda"}');
    same(call().state, 'approval-requested', 'state before the answer');
    await client.sameAsStored(id, page);
    await answer({ approved: true, reason: 'backed up' });
    same(call().state, 'output-available', 'state after yes');
    same(call().output, { ok: true, name: 'erase', input: { disk: 'sda' } }, 'the tool ran');
    await client.sameAsStored(id, page);
    await page.say('!approve erase {"disk":"sdb"}');
    await answer({ approved: false });
    same(call().state, 'output-denied', 'state after no');
    same(page.hook.messages.length, 4, 'messages');
    await page.answers();
    await client.sameAsStored(id, page);
    page.leave();
  },

  async error() {
    const id = newId();
    const page = await client.open({ id });
    await page.say('!error the model is ill');
    same([page.hook.status, page.hook.error?.message], ['error', 'the model is ill'], 'status and error');
    same(textOf(page.hook.messages[1]), 'partial ', 'what came before the error stays');
    const [chunks] = await page.answers();
    check(chunks.some(chunk => chunk.type === 'error'), 'no error chunk');
    const [, partial] = await client.stored(id);
    sameValue(partial.parts, page.hook.messages[1].parts, 'stored parts');
    await page.say('well again');
    same(page.hook.status, 'ready', 'status afterwards');
    same(textOf(page.hook.messages.at(-1)), 'echo: well again', 'next answer');
    page.leave();
  },

  async 'http-error'() {
    const id = newId();
    const page = await client.open({ id });
    await page.say('!http 503');
    same([page.hook.status, page.recorder.last.status], ['error', 503], 'status of hook and response');
    let shown;
    try {
      shown = JSON.parse(page.hook.error.message);
    } catch {
      shown = {};
    }
    check(typeof shown.error?.message === 'string', `what the user sees: ${page.hook.error.message}`);
    check(page.hook.error.message.length < 500, 'the user sees an essay');
    page.leave();
  },
});

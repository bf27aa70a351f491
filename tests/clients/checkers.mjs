// The checkers themselves: each breaks a good stream in one way, and the break must be seen.
import { checkOrder, readLines } from './datastream.mjs';
import { check, Failure, finish, readArguments, run } from './harness.mjs';
import { checkChunks, readEvents } from './uistream.mjs';

const { only } = readArguments();

const chunk = (type, fields = {}) => ({ type, ...fields });
const GOOD = [
  chunk('start', { messageId: 'm', messageMetadata: { model: 'echo' } }),
  chunk('start-step'),
  chunk('reasoning-start', { id: '0' }),
  chunk('reasoning-delta', { id: '0', delta: 'hm' }),
  chunk('reasoning-end', { id: '0' }),
  chunk('tool-input-start', { toolCallId: 'c', toolName: 'add' }),
  chunk('tool-input-delta', { toolCallId: 'c', inputTextDelta: '{}' }),
  chunk('tool-input-available', { toolCallId: 'c', toolName: 'add', input: null }),
  chunk('tool-output-available', { toolCallId: 'c', output: null }),
  chunk('finish-step'),
  chunk('data-note', { data: 1 }),
  chunk('start-step'),
  chunk('text-start', { id: '0' }),
  chunk('text-delta', { id: '0', delta: 'well' }),
  chunk('text-end', { id: '0' }),
  chunk('finish-step'),
  chunk('finish', { finishReason: 'stop', messageMetadata: {} }),
];
const at = type => GOOD.findIndex(one => one.type === type);
const without = type => GOOD.toSpliced(at(type), 1);
const before = (type, ...more) => GOOD.toSpliced(at(type), 0, ...more);
const instead = (type, ...more) => GOOD.toSpliced(at(type), 1, ...more);

const BROKEN = {
  'nothing at all': [],
  'no start': without('start'),
  'a second start': before('text-start', GOOD[0]),
  'no message id': instead('start', chunk('start')),
  'an unknown type': before('text-start', chunk('note')),
  'data without a name': before('text-start', chunk('data-', { data: 1 })),
  'an unknown field': instead('text-start', chunk('text-start', { id: '0', at: 1 })),
  'null for an optional field': instead('text-start', chunk('text-start', { id: '0', providerMetadata: null })),
  'flat provider metadata': instead('text-start', chunk('text-start', { id: '0', providerMetadata: { a: 'b' } })),
  'a number as id': instead('text-start', chunk('text-start', { id: 0 })),
  'a missing field': instead('text-delta', chunk('text-delta', { id: '0' })),
  'a delta before its start': without('text-start'),
  'a text that never ends': without('text-end'),
  'a text that ends after its step': [...GOOD.slice(0, -3), GOOD.at(-2), GOOD.at(-3), GOOD.at(-1)],
  'a part that is opened twice': before('text-delta', GOOD[at('text-start')]),
  'text outside a step': GOOD.toSpliced(GOOD.findLastIndex(one => one.type === 'start-step'), 1),
  'a step inside a step': without('finish-step'),
  'a finish inside a step': GOOD.toSpliced(-2, 1),
  'a delta of an input that was not started': without('tool-input-start'),
  'an input that never came': without('tool-input-available'),
  'a result without a call': before('text-start', chunk('tool-output-available', { toolCallId: 'x', output: 1 })),
  'a second result': before('finish-step', chunk('tool-output-available', { toolCallId: 'c', output: 1 })),
  'a second call of one id': before('text-start', GOOD[at('tool-input-available')]),
  'an approval after the result': before('finish-step', chunk('tool-approval-request', { toolCallId: 'c', approvalId: 'a' })),
  'a refusal without a question': before('text-start', chunk('tool-output-denied', { toolCallId: 'c' })),
  'an unknown reason': instead('finish', chunk('finish', { finishReason: 'max_tokens' })),
  'no finish': without('finish'),
  'text after the finish': [...GOOD, chunk('start-step')],
  'text after an error': before('text-delta', chunk('error', { errorText: 'e' })),
  'an open text at an error': instead('text-end', chunk('error', { errorText: 'e' })).slice(0, at('text-end') + 1),
};

const event = one => `data: ${JSON.stringify(one)}\n\n`;
const BODY = `: hello\n\n${GOOD.map(event).join('')}data: [DONE]\n\n`;
const BROKEN_BODIES = {
  'no end mark': BODY.replace('data: [DONE]\n\n', ''),
  'an event after the end mark': BODY + event(GOOD[0]),
  'an end inside an event': BODY.slice(0, -1),
  'a line without a field': BODY.replace(': hello', 'hello'),
  'no JSON': BODY.replace('"m"', 'm'),
};

const LINES = [
  'f:{"messageId":"m"}', 'g:"hm"', 'b:{"toolCallId":"c","toolName":"add"}',
  'c:{"toolCallId":"c","argsTextDelta":"{}"}', '9:{"toolCallId":"c","toolName":"add","args":{}}',
  'a:{"toolCallId":"c","result":null}', 'e:{"finishReason":"tool-calls","isContinued":false}',
  '2:[{"a":1}]', 'f:{"messageId":"m"}', '0:"well"', 'e:{"finishReason":"stop","isContinued":false}',
  'd:{"finishReason":"stop","usage":{"promptTokens":1,"completionTokens":1}}',
];
const BROKEN_LINES = {
  'an unknown code': LINES.with(1, 'z:{}'),
  'a comment': LINES.with(1, ': hello'),
  'no JSON': LINES.with(1, 'g:hm'),
  'a text that is no string': LINES.with(9, '0:{"text":"well"}'),
  'data that is no list': LINES.with(7, '2:{"a":1}'),
  'text outside a step': LINES.toSpliced(8, 1),
  'a step inside a step': LINES.toSpliced(6, 1),
  'an open step at the end': LINES.toSpliced(10, 1),
  'arguments that were not started': LINES.toSpliced(2, 1),
  'a result without a call': LINES.toSpliced(4, 1),
  'no end': LINES.slice(0, -1),
  'something after the end': [...LINES, 'f:{"messageId":"m"}'],
  'an unknown reason': LINES.with(11, 'd:{"finishReason":"max_tokens"}'),
};

function mustFail(cases, examine) {
  for (const [what, value] of Object.entries(cases)) {
    let seen = false;
    try {
      examine(value);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      seen = true;
    }
    check(seen, `not seen: ${what}`);
  }
}

const readAll = lines => checkOrder(readLines(`${lines.join('\n')}\n`));
const scenarios = {
  'good streams': () => {
    checkChunks(GOOD);
    checkChunks(readEvents(BODY));
    checkChunks([...GOOD.slice(0, 5), chunk('error', { errorText: 'e' })]);
    checkChunks([...GOOD.slice(0, 5), chunk('abort', { reason: 'stopped' })]);
    checkChunks(readEvents(BODY.slice(0, 300), { cut: true }), { cut: true });
    const answers = [GOOD[0], chunk('tool-output-denied', { toolCallId: 'old' }), ...GOOD.slice(1)];
    checkChunks(answers, { earlierCalls: ['old'] });
    readAll(LINES);
    readAll([...LINES.slice(0, 2), '3:"e"', 'e:{"finishReason":"error","isContinued":false}', 'd:{"finishReason":"error"}']);
  },
  'broken chunks': () => mustFail(BROKEN, checkChunks),
  'broken events': () => mustFail(BROKEN_BODIES, body => checkChunks(readEvents(body))),
  'broken lines': () => mustFail(BROKEN_LINES, readAll),
};

await run('checkers', scenarios, only);
finish();

// Whole runs of the real runner over the stored history.
import { Agent, OutputGuardrailTripwireTriggered, run, RunState } from '@openai/agents';
import { check, fail, newId, refused, same } from '../harness.mjs';
import { ask, calls, kindsOf, launch, multiply, says, ScriptedModel, textsOf } from './model.mjs';

const TOOL_TURN = ['user', 'function_call', 'function_call_result', 'assistant'];

export const runs = ({ open }) => {
  const inBoth = scenario => async () => {
    for (const stream of [false, true]) await scenario(stream);
  };

  return {
    'run-text': inBoth(async stream => {
      const id = newId();
      const model = new ScriptedModel(says('Wien'), says('Donau'));
      const agent = new Agent({ name: 'Guide', instructions: 'short', model });
      for (const [input, output] of [['which city?', 'Wien'], ['which river?', 'Donau']]) {
        const result = await ask(agent, input, { session: open(id), stream });
        same(result.finalOutput, output, `answer, stream ${stream}`);
      }
      same(textsOf(model.inputs[1]), ['which city?', 'Wien', 'which river?'], 'what the model saw');
      same(textsOf(await open(id).getItems()), ['which city?', 'Wien', 'which river?', 'Donau'], 'stored');
    }),

    'run-tools': inBoth(async stream => {
      const id = newId();
      const both = calls(['multiply', { x: 6, y: 7 }], ['multiply', { x: 2, y: 2 }]);
      const model = new ScriptedModel(both, says('42 and 4'), says('bye'));
      const agent = new Agent({ name: 'Sums', model, tools: [multiply] });
      await ask(agent, 'two products', { session: open(id), stream });
      const stored = await open(id).getItems();
      same([...kindsOf(stored)].sort(), ['assistant', 'function_call', 'function_call', 'function_call_result', 'function_call_result', 'user'], 'stored');
      const outputs = stored.filter(item => item.type === 'function_call_result');
      same(outputs.map(item => item.output.text), ['42', '4'], 'results');
      same(outputs.map(item => item.callId), both.map(call => call.callId), 'ids of the calls');
      await ask(agent, 'thanks', { session: open(id), stream });
      same(kindsOf(model.inputs[2]), [...kindsOf(stored), 'user'], 'the next turn sees the tools');
    }),

    async 'run-undo'() {
      const session = open();
      const model = new ScriptedModel(says('wrong'), says('right'));
      const agent = new Agent({ name: 'Guide', model });
      await ask(agent, 'first try', { session });
      await session.popItem();
      await session.popItem();
      await ask(agent, 'second try', { session });
      same(textsOf(model.inputs[1]), ['second try'], 'what was undone is not seen again');
    },

    async 'run-model-error'() {
      const session = open();
      const model = new ScriptedModel(new Error('overloaded'), says('fine'));
      const agent = new Agent({ name: 'Guide', model });
      await refused(ask(agent, 'first', { session, stream: true }), 'a run whose model fails');
      await ask(agent, 'second', { session, stream: true });
      same(textsOf(model.inputs[1]), ['first', 'second'], 'the failed turn keeps its question');
    },

    'run-approval': inBoth(async stream => {
      const id = newId();
      const model = new ScriptedModel(calls(['launch', { rocket: 'Ariane' }]), says('done'));
      const agent = new Agent({ name: 'Control', model, tools: [launch] });
      const first = await ask(agent, 'launch it', { session: open(id), stream });
      same(first.interruptions.length, 1, 'interruptions');
      const state = await RunState.fromString(agent, first.state.toString());
      for (const interruption of state.getInterruptions()) state.approve(interruption);
      const second = await ask(agent, state, { session: open(id), stream });
      same(second.finalOutput, 'done', 'answer after the approval');
      const stored = await open(id).getItems();
      same(kindsOf(stored), TOOL_TURN, 'stored');
      same(stored[2].output.text, 'Ariane is in the air', 'result');
    }),

    async 'run-rejection'() {
      const id = newId();
      const model = new ScriptedModel(calls(['launch', { rocket: 'Ariane' }]), says('as you wish'));
      const agent = new Agent({ name: 'Control', model, tools: [launch] });
      const first = await ask(agent, 'launch it', { session: open(id) });
      const state = await RunState.fromString(agent, first.state.toString());
      for (const interruption of state.getInterruptions()) state.reject(interruption);
      await ask(agent, state, { session: open(id) });
      const stored = await open(id).getItems();
      same(kindsOf(stored), TOOL_TURN, 'stored');
      check(!JSON.stringify(stored[2]).includes('in the air'), 'the rejected tool ran');
    },

    async 'run-guardrail'() {
      const session = open();
      const model = new ScriptedModel(calls(['multiply', { x: 3, y: 3 }]), says('secret'));
      const guard = {
        name: 'no secrets',
        execute: async ({ agentOutput }) => ({ tripwireTriggered: agentOutput === 'secret', outputInfo: {} }),
      };
      const agent = new Agent({ name: 'Guide', model, tools: [multiply], outputGuardrails: [guard] });
      const error = await refused(ask(agent, 'tell me', { session }), 'a forbidden answer');
      if (!(error instanceof OutputGuardrailTripwireTriggered)) fail(String(error));
      same(kindsOf(await session.getItems()), TOOL_TURN.slice(0, 3), 'the work of the tool is kept, the answer is not');
    },

    async 'run-trimmed-input'() {
      const session = open();
      const model = new ScriptedModel(...['a', 'b', 'c', 'd'].map(says));
      const agent = new Agent({ name: 'Guide', model });
      const sessionInputCallback = (past, news) => [...past.slice(-1), ...news];
      for (const input of ['1', '2', '3', '4']) await run(agent, input, { session, sessionInputCallback });
      same(textsOf(model.inputs[3]), ['c', '4'], 'what the model saw');
      same(textsOf(await session.getItems()), ['1', 'a', '2', 'b', '3', 'c', '4', 'd'], 'stored');
    },
  };
};

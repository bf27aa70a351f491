// A model that says what it was told to say, and the agents and tools of the scenarios.
import { run, tool, Usage } from '@openai/agents';
import { z } from 'zod';

let nextId = 0;
const unique = prefix => `${prefix}_${nextId++}`;
const usage = () => new Usage({ requests: 1, inputTokens: 3, outputTokens: 2, totalTokens: 5 });

export const question = text => ({ type: 'message', role: 'user', content: text });
export const questions = count => Array.from({ length: count }, (_, i) => question(`question ${i}`));
export const says = text => [{
  type: 'message', role: 'assistant', status: 'completed', id: unique('msg'),
  content: [{ type: 'output_text', text }],
}];
export const calls = (...wanted) => wanted.map(([name, input]) => ({
  type: 'function_call', id: unique('fc'), callId: unique('call'), name, status: 'completed',
  arguments: JSON.stringify(input),
}));

export class ScriptedModel {
  inputs = [];
  #script;

  constructor(...script) {
    this.#script = script;
  }

  #next({ input }) {
    this.inputs.push(structuredClone(input));
    const output = this.#script.shift();
    if (output === undefined) throw new Error('the script is at its end');
    if (output instanceof Error) throw output;
    return output;
  }

  async getResponse(request) {
    return { usage: usage(), output: this.#next(request), responseId: unique('resp') };
  }

  async *getStreamedResponse(request) {
    const output = this.#next(request);
    yield { type: 'response_started' };
    for (const item of output) {
      if (item.type === 'message') yield { type: 'output_text_delta', delta: item.content[0].text };
    }
    const { inputTokens, outputTokens, totalTokens } = usage();
    const response = { id: unique('resp'), usage: { requests: 1, inputTokens, outputTokens, totalTokens }, output };
    yield { type: 'response_done', response };
  }
}

export const multiply = tool({
  name: 'multiply',
  description: 'multiplies two numbers',
  parameters: z.object({ x: z.number(), y: z.number() }),
  execute: async ({ x, y }) => String(x * y),
});

export const launch = tool({
  name: 'launch',
  description: 'launches a rocket',
  parameters: z.object({ rocket: z.string() }),
  needsApproval: true,
  execute: async ({ rocket }) => `${rocket} is in the air`,
});

export async function ask(agent, input, options) {
  const result = await run(agent, input, options);
  if (options.stream) {
    for await (const event of result) void event;
    await result.completed;
  }
  return result;
}

export const kindsOf = items =>
  items.map(item => (item.role ?? item.type));
export const textsOf = items =>
  items.map(item => (typeof item.content === 'string' ? item.content : item.content?.[0]?.text));

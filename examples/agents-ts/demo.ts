// Two questions about one history. Start it again and it knows what was said before.
import { Agent, run, setTracingDisabled, Usage } from '@openai/agents';
import type { Model, ModelRequest, ModelResponse, StreamEvent } from '@openai/agents';
import { SessileSession } from './session.ts';

/** Stands in for a model where there is no key: it says how much of the history reached it. */
class Offline implements Model {
  async getResponse({ input }: ModelRequest): Promise<ModelResponse> {
    const text = `I was given ${typeof input === 'string' ? 1 : input.length} items.`;
    return {
      usage: new Usage(),
      output: [{ type: 'message', role: 'assistant', status: 'completed', content: [{ type: 'output_text', text }] }],
    };
  }

  async *getStreamedResponse(): AsyncIterable<StreamEvent> {
    throw new Error('this model does not stream');
  }
}

setTracingDisabled(true);
const session = new SessileSession({
  baseUrl: process.env.SESSILE_URL ?? 'http://127.0.0.1:8080',
  sessionId: process.argv[2] ?? 'agents-demo',
});
const agent = new Agent({
  name: 'Guide',
  instructions: 'Answer in one short sentence.',
  ...(process.env.OPENAI_API_KEY ? {} : { model: new Offline() }),
});

console.log(`${(await session.getItems()).length} items from before`);
for (const question of ['Which city is the Prater in?', 'Which river runs through it?']) {
  const { finalOutput } = await run(agent, question, { session });
  console.log(`${question}\n  ${finalOutput}`);
}

// The OpenAI Agents SDK for TypeScript with the session of examples/agents-ts.
import { setTracingDisabled } from '@openai/agents';
import { SessileSession } from '../../examples/agents-ts/session.ts';
import { items } from './agents/items.mjs';
import { runs } from './agents/runs.mjs';
import { finish, newId, readArguments, run } from './harness.mjs';

const { base, only } = readArguments();
setTracingDisabled(true);
const open = (sessionId = newId(), options = {}) =>
  new SessileSession({ baseUrl: base, sessionId, ...options });
await run('agents', { ...items({ base, open }), ...runs({ open }) }, only);
finish();
